"""Ordinary English words: what stands in for anchor terms, and the cues by which terms are found and typed."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def plural(noun: str) -> str:
    """The plural of a regular noun of the lists below: "brushes", "torches", "boxes", "ladies", "drums"."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


GIRLS = _words(
    "Sarah Emily Laura Karen Susan Linda Nancy Betty Donna Carol Sharon Michelle Amanda Melissa Deborah Stephanie "
    "Rebecca Cynthia Kathleen Amy Angela Shirley Brenda Pamela Nicole Samantha Katherine Christine Debra Rachel Janet "
    "Heather Diane Julie Joyce Victoria Kelly Christina Joan Evelyn Lauren Judith Megan Andrea Cheryl Hannah "
    "Jacqueline Teresa Gloria Sara Janice Kathryn Denise Tammy Beverly Marilyn Theresa Brittany Danielle Natalie "
    "Claire Fiona"
)
BOYS = _words(
    "Michael Kevin Brian Steven Gary Eric Jeffrey Ronald Anthony Kenneth Joshua Timothy Jason Ryan Jacob Nicholas "
    "Jonathan Justin Scott Brandon Benjamin Samuel Gregory Patrick Raymond Jerry Dennis Aaron Adam Nathan Zachary "
    "Kyle Noah Ethan Jeremy Sean Carl Keith Roger Gerald Lawrence Austin Bryan Jordan Dylan Bruce Ralph Eugene Philip "
    "Russell Bobby Johnny Bradley Howard Vincent Logan Randy Wayne Alan Craig Stuart Duncan Graham Neil"
)
SURNAMES = _words(
    "Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Moore Jackson Thompson Harris Robinson "
    "Walker Nelson Baker Campbell Mitchell Roberts Turner Phillips Parker Edwards Collins Stewart Morris Murphy "
    "Cooper Richardson Howard Peterson Bailey Kelly Sanders Bennett Brooks Hughes Foster Simmons Butler Barnes Fisher "
    "Henderson Coleman Jenkins Perry Powell Patterson Hamilton Graham Wallace Cole Ellis Harrison Gibson Marshall "
    "Owens Palmer"
)
PLACES = _words(
    "Springfield Franklin Clinton Greenville Bristol Fairview Salem Madison Georgetown Arlington Ashland Dover Oxford "
    "Jackson Burlington Manchester Milton Newport Auburn Dayton Lexington Milford Winchester Hudson Kingston Clayton "
    "Riverside Cleveland Denver Chester Monroe Marion Oakland Lebanon Warren Hamilton Lancaster Bedford Norwood "
    "Camden Princeton Brighton Leeds Norwich Exeter Lincoln Durham Preston Derby Reading Swindon Carlisle Halifax "
    "Plymouth"
)
THINGS = _words(
    "lantern bucket hammer ladder basket kettle blanket mirror wagon barrel candle compass anchor whistle drum spoon "
    "ribbon pillow button saddle shovel bottle pencil umbrella suitcase bicycle notebook calendar toolbox thermometer "
    "tent chair rope map coin ring mug broom rake tray stool sponge magnet whisk puzzle rug ladle thimble brush "
    "pulley teapot curtain bracelet necklace clock cushion jug paintbrush towel telescope vase wallet"
)
PEOPLE = _words(  # for persons who are named by what they are: "the Scarecrow"
    "neighbour traveller carpenter gardener teacher farmer baker postman shopkeeper plumber musician dentist painter "
    "clerk librarian mechanic waiter nurse lawyer engineer student accountant electrician tailor butcher"
)
SPEECH = frozenset(
    _words(
        "said says say asked asks cried cries replied answered exclaimed whispered shouted called began added "
        "continued murmured returned remarked observed inquired thought laughed smiled nodded sighed spoke told "
        "screamed declared explained interrupted repeated muttered sobbed demanded wept swore"
    )
)
#: Words after which a place is likely, with how strongly.
BEFORE_PLACES = {
    "in": 1.5,
    "at": 1.0,
    "into": 1.0,
    "near": 1.0,
    "over": 1.0,
    "towards": 0.7,
    "toward": 0.7,
    "from": 0.6,
    "through": 0.6,
    "across": 0.6,
    "to": 0.3,
    "of": 0.3,
    "on": 0.5,
    "upon": 0.5,
}
DETERMINERS = frozenset(_words("the a an this that these those my your his her its our their every each no"))
TITLES = frozenset(
    _words(
        "Mr Mrs Ms Miss Dr Doctor Captain Professor Sir Lord Lady Dame Uncle Aunt King Queen Prince Princess Colonel "
        "Major General Sergeant Lieutenant Inspector Reverend Rev Father Mother Brother Sister Madame Madam Monsieur "
        "St Master Mistress Judge Count Countess Duke Duchess Baron Emperor"
    )
)
FEMALE_TITLES = frozenset(
    _words("Mrs Ms Miss Lady Dame Aunt Queen Princess Mother Sister Madame Madam Mistress Countess Duchess")
)
#: Titles that go before surnames, not first names.
SURNAME_TITLES = frozenset(
    _words(
        "Mr Mrs Ms Miss Dr Doctor Captain Professor Colonel Major General Sergeant Lieutenant Inspector Reverend Rev "
        "Judge"
    )
)
DIRECTIONS = frozenset(_words("North South East West Northern Southern Eastern Western"))
PLACE_HEADS = frozenset(
    _words(
        "City Castle Hall Street Forest River Mount Mountain Mountains Lake House Park Island Road Square Land Lane "
        "Valley Country Village Town Bridge Wood Woods Hill Hills Bay Sea Desert Cross Palace Inn Farm Abbey School "
        "Avenue"
    )
)
PLACE_ENDS = _words(
    "ton shire land lands ville burgh burg bourn borough ford bridge haven gate ham holm dale mouth wick stead "
    "thorpe moor mere vale fell march dun sea port"
)
CONNECTORS = (("of",), ("of", "the"), ("de",), ("von",), ("van",), ("la",), ("du",), ("the",))
#: Words written with a capital letter anywhere, in any book.
CAPITALISED = frozenset(
    _words(
        "I I'm I'll I've I'd God Mr Mrs Miss Sir Madam January February March April May June July August September "
        "October November December Monday Tuesday Wednesday Thursday Friday Saturday Sunday Christmas Easter English "
        "England French France German Germany Latin Greek Roman Rome Italian Italy Spanish Spain American America "
        "British Britain Scotch Scottish Scotland Irish Ireland Indian India Chinese China European Europe African "
        "Africa Asia Christian Bible Heaven London Paris York Chapter Illustration Oh Ah O Yes No Contents Preface "
        "Foreword Introduction Volume II III IV VI VII VIII IX XI XII"
    )
)
#: Words so frequent that forbidding them would spoil every sentence; also no names at the start of one.
FREQUENT = frozenset(
    _words(
        "the of and to a in that it is was i for on you he be with as by at have are this not but had his they from "
        "she which or we an there her were one do been all their has would will what if can when so my no me who him "
        "up out then them now some could time very your about into its just only over did more other than how said "
        "like any see these our two get well here after first before made where much way even such should because "
        "most us may also through back those still too own while between again never under both down many since must "
        "off might another why let come go yes oh perhaps though once until upon nothing everything something nor yet "
        "however whatever whether everybody nobody somebody each every few less little old new good great long right "
        "left man woman day"
    )
)
