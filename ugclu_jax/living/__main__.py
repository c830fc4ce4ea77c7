"""`ugclu`, or `python -m ugclu_jax.living`: a model in a folder, from the command line."""

import sys
from collections.abc import Sequence

from ugclu_jax.extras import MissingExtraError, installed_by

DESCRIPTION = """A model in a folder: it learns, unlearns, is audited and proves what was done.

ugclu VERB --help says what a verb takes; ugclu --tyro-print-completion bash (or zsh) prints a completion script.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code.

    Args:
        arguments: None = those of the process.
    """
    try:
        with installed_by("living"):
            import tyro

            from ugclu_jax.harness.terminal import ended
            from ugclu_jax.living.verbs import VERBS
    except MissingExtraError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        return int(tyro.extras.subcommand_cli_from_dict(VERBS, prog="ugclu", description=DESCRIPTION, args=given))

    return ended(work)


if __name__ == "__main__":
    sys.exit(main())
