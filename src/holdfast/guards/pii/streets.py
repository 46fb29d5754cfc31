"""The words in addresses that say what kind of place it is, and names to put in the place of others."""

NAMES = (
    *("Acacia", "Alder", "Amber", "Aspen", "Aurora", "Beacon", "Birch", "Bramble", "Briar", "Brook", "Canyon", "Cedar"),
    *("Cherry", "Clover", "Coral", "Cypress", "Dahlia", "Elm", "Fern", "Flint", "Forest", "Garnet", "Hazel", "Heather"),
    *("Hickory", "Holly", "Indigo", "Iris", "Ivy", "Jasmine", "Juniper", "Larch", "Laurel", "Lilac", "Linden", "Lotus"),
    *(
        "Magnolia",
        "Maple",
        "Meadow",
        "Mimosa",
        "Myrtle",
        "Nettle",
        "Olive",
        "Orchid",
        "Osier",
        "Pebble",
        "Pine",
        "Poplar",
    ),
    *(
        "Quartz",
        "Ravine",
        "Rowan",
        "Sage",
        "Sierra",
        "Spruce",
        "Sumac",
        "Tamarack",
        "Thistle",
        "Topaz",
        "Tulip",
        "Vale",
    ),
    *("Violet", "Walnut", "Willow", "Yarrow"),
)
_WORDS = """
    street st avenue ave av road rd boulevard blvd lane ln drive dr court ct place pl square sq terrace way
    parkway highway circle crescent close trail row apt apartment suite ste unit flat floor room box po psc apo
    dpo postfach rue chemin quai route impasse bis ter de la du des le les calle via piazza corso viale rua
    avenida plaza paseo carrer ul ulica улица ул проспект weg platz allee straße strasse str jalan jl strada trg
    utca út tér the of
"""
STREET_WORDS = frozenset(_WORDS.split())

_ENDINGS = """
    straße strasse weg platz allee gasse damm ufer gade vej gata gatan vägen veien katu kuja polku laan straat
    plein gracht dijk kade
"""


def endings(word: str) -> str:
    """Return the end of a word that says what kind of street it is, else nothing."""
    lower = word.lower()
    return next((ending for ending in _ENDINGS.split() if lower.endswith(ending) and lower != ending), "")
