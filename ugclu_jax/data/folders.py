"""Which files of a folder are the pictures of which class and split, and what is said of everything else in it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ugclu_jax.data.classes import near_twins
from ugclu_jax.data.formats import is_picture
from ugclu_jax.data.links import composed, entries, kind
from ugclu_jax.data.metadata import NAMES
from ugclu_jax.data.wording import counted, listed

SPLITS = ("train", "test")
_VALIDATION = ("val", "valid", "validation", "dev")
_LIKE_SPLITS = (*SPLITS, *_VALIDATION, "training", "testing", "eval", "evaluation")
_OF_MACHINES = ("__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information")
"""Folders that systems make by themselves, in lower case."""


class File(NamedTuple):
    """A picture: where it lies, its key, and the name of its class."""

    path: Path
    key: str
    class_name: str


class Found(NamedTuple):
    """What a folder holds.

    Attributes:
        splits: `("train", "test")` where there are these folders, else none.
        files: of each split, or of the whole, in the order of keys.
        notes: what is passed over.
    """

    splits: tuple[str, ...]
    files: list[list[File]]
    notes: list[str]


class _Folder(NamedTuple):
    """A folder that may be a class: the pictures in it, and those that lie deeper."""

    path: Path
    pictures: list[Path]
    deeper: list[Path]


def find(directory: Path, follow_links: bool) -> Found:
    """List the pictures of `directory/class`, or of `directory/train/class` and `directory/test/class`.

    A folder with pictures in it is a class; `train` and `test` are splits if they hold such folders.

    Raises:
        FileNotFoundError: one of `train` and `test` is there alone.
        ValueError: there is no picture, pictures lie where no class could be told, classes lie beside `train` and
            `test`, two files have one name, or a link or name cannot be followed; it is named.
    """
    return _Search(directory, follow_links).find()


class _Search:
    def __init__(self, directory: Path, follow_links: bool) -> None:
        self.directory = directory
        self.root = directory.resolve()
        self.follow_links = follow_links
        self.passed: dict[str, dict[str, None]] = {}  # why → relative paths, in the order in which they were met

    def find(self) -> Found:
        folders = self._folders(self.directory)
        splits = [folder for folder in folders if folder.path.name.lower() in _LIKE_SPLITS and folder.deeper]
        if splits:
            self._check_splits(splits, [folder for folder in folders if folder not in splits])
            roots = [self.directory / name for name in SPLITS]
            groups = [self._classes(root, self._folders(root)) for root in roots]
        else:
            names = {folder.path.name.lower() for folder in folders if folder.pictures}
            if names and names <= set(_LIKE_SPLITS):
                raise ValueError(
                    f"{self.directory} has the folders {listed(sorted(names))}, with pictures and without folders of "
                    "classes in them: give one folder a class in each"
                )
            groups = [self._classes(self.directory, folders)]
        for group in groups:
            self._name_twins(group)
        return Found(SPLITS if splits else (), groups, self._notes())

    def _check_splits(self, found: list[_Folder], others: list[_Folder]) -> None:
        """Refuse a split that is missing, and what stands beside the splits and would be lost."""
        there = [folder.path.name for folder in found]
        lacking = [name for name in SPLITS if name not in there]
        if lacking:
            flat = [folder.path.name for folder in others if folder.path.name in lacking and folder.pictures]
            beside = f" ({flat[0]} has pictures, without folders of classes)" if flat else ""
            raise FileNotFoundError(
                f"{self.directory} has {' and '.join(there)} and lacks {' and '.join(lacking)}{beside}: give train and "
                "test, under these names, or one folder a class without either, to have 20 % drawn for the test split"
            )
        for folder in others:
            if folder.pictures or folder.deeper:
                first = (folder.pictures or folder.deeper)[0]
                raise ValueError(
                    f"{self._relative(first)} lies beside train and test in {self.directory}: move it into one of them"
                )
            self._pass("folder", folder.path)
        for folder in found:
            if folder.path.name not in SPLITS:
                if folder.path.name.lower() not in _VALIDATION:
                    raise ValueError(f"{folder.path} looks like a split, beside train and test: rename or remove it")
                for path in folder.pictures + folder.deeper:
                    self._pass("validation", path)

    def _classes(self, root: Path, folders: list[_Folder]) -> list[File]:
        """The pictures of the classes that lie in a folder."""
        for folder in folders:
            if folder.deeper and not folder.pictures:
                raise ValueError(
                    f"{folder.path} holds no picture itself, but {self._relative(folder.deeper[0])} lies deeper: a "
                    f"picture must lie in the folder of its class, {root}/CLASS; name the folder that holds those of "
                    "the classes, or move the pictures"
                )
            for path in folder.deeper:
                self._pass("deeper", path)
            if not folder.pictures:
                self._pass("folder", folder.path)
        files = [
            File(path, composed(self._relative(path)), composed(folder.path.name))
            for folder in folders
            for path in folder.pictures
        ]
        if not files:
            raise ValueError(f"{root} holds no picture: it must have folders, one a class, with pictures in them")
        files.sort(key=lambda file: file.key)
        for one, other in itertools.pairwise(files):
            if one.key == other.key:
                raise ValueError(
                    f"{str(one.path)!a} and {str(other.path)!a} have one name, {one.key!r}, in two forms of Unicode: "
                    "rename one"
                )
        return files

    def _folders(self, root: Path) -> list[_Folder]:
        """The folders in one, each with its pictures."""
        found = []
        for path in entries(root):
            if self._passes(path):
                continue
            what = kind(path, self.root, self.follow_links)
            if what == "folder":
                found.append(self._folder(path))
            elif what == "other":
                self._pass("other", path)
            elif path.name not in NAMES:
                self._pass("root" if self._is_picture(path) else "no picture", path)
        return found

    def _folder(self, folder: Path) -> _Folder:
        pictures, deeper = [], []
        for path in entries(folder):
            if self._passes(path):
                continue
            what = kind(path, self.root, self.follow_links)
            if what == "folder":
                deeper += list(self._deeper(path))
            elif what == "other":
                self._pass("other", path)
            elif self._is_picture(path):
                pictures.append(path)
            elif path.name not in NAMES or folder.name not in SPLITS:
                self._pass("no picture", path)
        return _Folder(folder, pictures, deeper)

    def _deeper(self, folder: Path) -> Iterator[Path]:
        """Pictures anywhere below a folder; links to folders are left alone."""
        if folder.is_symlink():
            self._pass("link", folder)
            return
        for path in entries(folder):
            if path.name.startswith(".") or path.name.lower() in _OF_MACHINES:
                continue
            what = kind(path, self.root, self.follow_links)
            if what == "folder":
                yield from self._deeper(path)
            elif what == "file" and self._is_picture(path):
                yield path

    def _is_picture(self, path: Path) -> bool:
        try:
            return is_picture(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): make it readable, or take it away") from error

    def _passes(self, path: Path) -> bool:
        """Pass over what systems and editors hide or make by themselves."""
        hidden = path.name.startswith(".") or path.name.lower() in _OF_MACHINES
        if hidden:
            self._pass("hidden", path)
        return hidden

    def _pass(self, why: str, path: Path) -> None:
        self._say(why, self._relative(path))

    def _say(self, why: str, name: str) -> None:
        self.passed.setdefault(why, {})[name] = None

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()

    def _name_twins(self, files: list[File]) -> None:
        for group in near_twins(file.class_name for file in files):
            self._say("classes", " and ".join(map(repr, group)))
        folded: dict[str, str] = {}
        for file in files:
            other = folded.setdefault(file.key.casefold(), file.key)
            if other != file.key:
                self._say("files", f"{other!r} and {file.key!r}")

    def _notes(self) -> list[str]:
        notes = []
        for why, (one, many) in _REASONS.items():
            names = list(self.passed.get(why, {}))
            if not names:
                continue
            suffixes = sorted({Path(name).suffix or "no suffix" for name in names}) if why == "no picture" else []
            kinds = f" ({listed(suffixes)})" if suffixes else ""
            all_named = why in ("folder", "classes")
            first = "" if all_named or len(names) == 1 else "the first "
            notes.append(f"{counted(len(names), one, many)}{kinds}: {first}{listed(names if all_named else names[:1])}")
        return notes


_REASONS = {
    "folder": ("folder holds no picture and is no class", "folders hold no picture and are no classes"),
    "no picture": ("file is passed over, which is no picture", "files are passed over, which are no pictures"),
    "root": (
        "picture is passed over, which lies in no class's folder",
        "pictures are passed over, which lie in no class's folder",
    ),
    "deeper": (
        "picture is passed over, which lies deeper than its class's folder",
        "pictures are passed over, which lie deeper than their class's folder",
    ),
    "validation": ("picture of a validation split is passed over", "pictures of a validation split are passed over"),
    "hidden": (
        "file or folder is passed over, which is hidden or made by a system",
        "files and folders are passed over, which are hidden or made by a system",
    ),
    "link": ("link to a folder is passed over within a class", "links to folders are passed over within classes"),
    "other": (
        "entry is passed over, which is neither a file nor a folder",
        "entries are passed over, which are neither files nor folders",
    ),
    "classes": ("group of classes has nearly one name", "groups of classes have nearly one name each"),
    "files": ("pair of pictures differ by case alone", "pairs of pictures differ by case alone"),
}
"""Why something is passed over or named → how one and many are said."""
