"""Distillation of sentence vectors: a small encoder learns the vectors that a teacher gives the same text.

Reimers and Gurevych (2020), https://aclanthology.org/2020.emnlp-main.365, on plain text. The teacher is the
encoder that `make encoder` writes. docs/distil.md shows how to name another.
"""

from xlt.data.teacher import Teacher
from xlt.kinds import Distillation
from xlt.tasks import mlm

TEACHER = Teacher("encoders/e5-small", prefix="query: ")

TASK = Distillation(
    source=mlm.TASK.source,
    read=mlm.read,
    teacher=TEACHER,
    licence="that of the text",
    citation="Reimers and Gurevych 2020, 2020.emnlp-main.365",
)
