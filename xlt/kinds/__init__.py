"""Kinds of tasks, one file each. A kind encodes a family of tasks, gives them a head and scores them.

Task files import their kind from here.
"""

from xlt.kinds.classification import Classification, XtremeClassification
from xlt.kinds.distillation import Distillation
from xlt.kinds.image_retrieval import VisualRetrieval
from xlt.kinds.image_text import VisualClassification
from xlt.kinds.language_modelling import MaskedLanguageModelling
from xlt.kinds.multiple_choice import MultipleChoice
from xlt.kinds.retrieval import BitextMining, TranslationRanking, TranslationRetrieval
from xlt.kinds.span_extraction import SpanExtraction, XtremeQuestions
from xlt.kinds.tagging import Tagging, XtremeTagging

__all__ = [
    "BitextMining",
    "Classification",
    "Distillation",
    "MaskedLanguageModelling",
    "MultipleChoice",
    "SpanExtraction",
    "Tagging",
    "TranslationRanking",
    "TranslationRetrieval",
    "VisualClassification",
    "VisualRetrieval",
    "XtremeClassification",
    "XtremeQuestions",
    "XtremeTagging",
]
