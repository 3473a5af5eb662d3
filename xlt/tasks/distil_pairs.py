"""Distillation across languages: both sides of a pair learn the teacher's vector of the translation.

Reimers and Gurevych (2020), https://aclanthology.org/2020.emnlp-main.365, section 2.
"""

from xlt.kinds import Distillation
from xlt.tasks.distil import TEACHER
from xlt.tasks.tlm import SOURCE, read

TASK = Distillation(
    source=SOURCE,
    read=read,
    teacher=TEACHER,
    with_translation=True,
    head_name="distil",
    licence="that of the text",
    citation="Reimers and Gurevych 2020, 2020.emnlp-main.365",
)
