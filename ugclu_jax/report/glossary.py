"""What each number means, and which way is better: the page's glossary and the tips of its columns."""

GLOSSARY = {  # name: (definition, better)
    "LA": (
        "Mean over retained tasks (classes, where requests ignore tasks) of test accuracy after the request.",
        "high",
    ),
    "UA": (
        "Accuracy on the unlearned training examples; UA_test is the same on test examples of the unlearned tasks or "
        "classes. Below the oracle's is over-forgetting, and as wrong as above it.",
        "near the oracle's",
    ),
    "RA, TA": (
        "Accuracy on the retained training examples, and on the test examples of what is retained.",
        "near the oracle's",
    ),
    "FM": (
        "Mean over retained tasks of the best earlier test accuracy minus the present one, counted from the task's own "
        "learning on; a re-learned task starts anew.",
        "low",
    ),
    "MIA": (
        "Share of the unlearned examples that a membership attacker calls members: a balanced logistic regression on "
        "one feature (the loss, in the tables), fitted on equally many retained training and test examples. MIA_AUC is "
        "its area under the ROC curve on held-out members and non-members.",
        "near the oracle's",
    ),
    "KL": (
        "Mean over inputs of KL(oracle ‖ model) between output distributions, natural logarithms, on retained, newly "
        "learned, unlearned and test inputs.",
        "low, at best the noise floor",
    ),
    "JS": ("½ KL(p‖m) + ½ KL(q‖m) with m = (p + q)/2; at most ln 2.", "low"),
    "noise floor": ("KL between oracles of different seeds on the same inputs: what retraining itself scores.", "–"),
    "RTE": ("Seconds of a request: mask, loop and buffer, without compilation and evaluation.", "low"),
    "compile s": ("Seconds of compilation, paid once for all requests of one size.", "low"),
    "gradient evaluations": ("Forward-backward passes over one batch, saliency included.", "low"),
    "ToW": ("(1 − |ΔUA|)(1 − |ΔRA|)(1 − |ΔTA|), differences to the oracle.", "high"),
    "relapse": ("Largest rise of UA above its value right after the unlearning, over later requests.", "low"),
    "oracle": ("The same architecture trained from scratch on everything retained after the request.", "–"),
}
