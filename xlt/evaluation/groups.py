"""The groups of XTREME's tasks.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, table 1.
"""

GROUPS = {
    "classification": ("xnli", "pawsx"),
    "tagging": ("udpos", "panx"),
    "question answering": ("xquad", "mlqa", "tydiqa"),
    "retrieval": ("bucc2018", "tatoeba"),
}
"""XTREME's groups. XTREME averages the scores of the tasks of each group."""

NINE = tuple(task for group in GROUPS.values() for task in group)
"""XTREME's tasks."""
