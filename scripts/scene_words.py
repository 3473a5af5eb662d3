"""Words of the drawn scenes: captions of scenes, and statements about their shapes, in 11 languages."""

from itertools import permutations
from typing import NamedTuple

COLOURS = ("red", "blue", "green", "yellow", "black", "brown")
SHAPES = ("circle", "square", "triangle", "star")


class Thing(NamedTuple):
    """Shape with a colour."""

    colour: str
    shape: str


class Scene(NamedTuple):
    """Two things: left and right, or upper and lower."""

    things: tuple[Thing, Thing]
    is_side_by_side: bool


THINGS = [Thing(colour, shape) for colour in COLOURS for shape in SHAPES]


def _form(forms: str, number: int) -> str:
    """Return a form of a word or template by its number. A single form serves for both numbers."""
    found = forms.split("|")
    return found[min(number, len(found) - 1)]


class Language(NamedTuple):
    """Words and templates of a language.

    Args:
        shapes: Nouns of SHAPES. Feminine nouns have a `*`.
        colours: Adjectives of COLOURS. A stroke separates the masculine form from the feminine form, and in
            German from the neuter form.
        phrase: Template of a noun phrase, or both forms of it.
        side_by_side: Template of a scene with a left and a right shape.
        stacked: Template of a scene with an upper and a lower shape.
        seen: Template of a statement about a shape in the picture, or both forms of it. Defaults to none.
        hidden: Template of a statement about a shape on the back of the picture, or both forms of it.
    """

    shapes: str
    colours: str
    phrase: str
    side_by_side: str
    stacked: str
    seen: str = ""
    hidden: str = ""

    def noun(self, thing: Thing) -> str:
        """Return the noun phrase of a thing, such as `a red circle`."""
        noun, form = self._noun(thing)
        colour = _form(self.colours.split()[COLOURS.index(thing.colour)], form)
        return _form(self.phrase, form).format(noun=noun, colour=colour)

    def _noun(self, thing: Thing) -> tuple[str, int]:
        """Return the noun and the number of its form: 1 for feminine, in German for neuter."""
        noun = self.shapes.split()[SHAPES.index(thing.shape)]
        return noun.rstrip("*"), int(noun.endswith("*"))

    def caption(self, scene: Scene) -> str:
        """Return a sentence that describes the scene."""
        template = self.side_by_side if scene.is_side_by_side else self.stacked
        return template.format(*map(self.noun, scene.things))

    def statement(self, thing: Thing, is_hidden: bool) -> str:
        """Return a sentence about a thing in the picture. If `is_hidden`, about a thing on its back."""
        template = self.hidden if is_hidden else self.seen
        return _form(template, self._noun(thing)[1]).format(self.noun(thing))


LANGUAGES = {
    "en": Language(
        "circle square triangle star",
        "red blue green yellow black brown",
        "a {colour} {noun}",
        "On the left {}, on the right {}.",
        "At the top {}, at the bottom {}.",
        "There is {} in the picture.",
        "There is {} on the back of the picture.",
    ),
    "de": Language(
        "Kreis Quadrat* Dreieck* Stern",
        "roter|rotes blauer|blaues grüner|grünes gelber|gelbes schwarzer|schwarzes brauner|braunes",
        "ein {colour} {noun}",
        "Links ist {}, rechts ist {}.",
        "Oben ist {}, unten ist {}.",
    ),
    "fr": Language(
        "cercle carré triangle étoile*",
        "rouge bleu|bleue vert|verte jaune noir|noire marron",
        "un {noun} {colour}|une {noun} {colour}",
        "À gauche {}, à droite {}.",
        "En haut {}, en bas {}.",
        "Il y a {} sur l'image.",
        "Il y a {} au dos de l'image.",
    ),
    "cs": Language(
        "kruh čtverec trojúhelník hvězda*",
        "červený|červená modrý|modrá zelený|zelená žlutý|žlutá černý|černá hnědý|hnědá",
        "{colour} {noun}",
        "Vlevo je {}, vpravo je {}.",
        "Nahoře je {}, dole je {}.",
    ),
    "es": Language(
        "círculo cuadrado triángulo estrella*",
        "rojo|roja azul verde amarillo|amarilla negro|negra marrón",
        "un {noun} {colour}|una {noun} {colour}",
        "A la izquierda hay {} y a la derecha {}.",
        "Arriba hay {} y abajo {}.",
        "Hay {} en la imagen.",
        "Hay {} en el reverso de la imagen.",
    ),
    "id": Language(
        "lingkaran persegi segitiga bintang",
        "merah biru hijau kuning hitam cokelat",
        "{noun} {colour}",
        "Di kiri ada {}, di kanan ada {}.",
        "Di atas ada {}, di bawah ada {}.",
    ),
    "ja": Language(
        "円 正方形 三角形 星",
        "赤い 青い 緑の 黄色い 黒い 茶色の",
        "{colour}{noun}",
        "左に{}、右に{}があります。",
        "上に{}、下に{}があります。",
    ),
    "ru": Language(
        "круг квадрат треугольник звезда*",
        "красный|красная синий|синяя зелёный|зелёная жёлтый|жёлтая чёрный|чёрная коричневый|коричневая",
        "{colour} {noun}",
        "Слева {}, справа {}.",
        "Вверху {}, внизу {}.",
        "На картинке есть {}.",
        "На обороте картинки есть {}.",
    ),
    "tr": Language(
        "daire kare üçgen yıldız",
        "kırmızı mavi yeşil sarı siyah kahverengi",
        "{colour} bir {noun}",
        "Solda {}, sağda {} var.",
        "Üstte {}, altta {} var.",
    ),
    "zh": Language(
        "圆形 正方形 三角形 星形",
        "红色的 蓝色的 绿色的 黄色的 黑色的 棕色的",
        "一个{colour}{noun}",
        "左边有{}，右边有{}。",
        "上面有{}，下面有{}。",
    ),
    "ar": Language(
        "دائرة* مربع مثلث نجمة*",
        "أحمر|حمراء أزرق|زرقاء أخضر|خضراء أصفر|صفراء أسود|سوداء بني|بنية",
        "{noun} {colour}",
        "على اليسار {} وعلى اليمين {}.",
        "في الأعلى {} وفي الأسفل {}.",
        "يوجد {} في الصورة.|توجد {} في الصورة.",
        "يوجد {} على ظهر الصورة.|توجد {} على ظهر الصورة.",
    ),
}

MORE_ENGLISH = {
    True: ("{0} is to the left of {1}.", "{1} is to the right of {0}."),
    False: ("{0} is above {1}.", "{1} is below {0}."),
}
"""Further English captions of scenes. The key is True for scenes side by side."""


def all_scenes() -> list[Scene]:
    """Return every scene of two different things."""
    return [Scene(pair, is_side) for pair in permutations(THINGS, 2) for is_side in (True, False)]


def english(scene: Scene) -> list[str]:
    """Return the English captions of a scene."""
    things = [LANGUAGES["en"].noun(thing) for thing in scene.things]
    more = [template.format(*things) for template in MORE_ENGLISH[scene.is_side_by_side]]
    return [LANGUAGES["en"].caption(scene), *(text[0].upper() + text[1:] for text in more)]
