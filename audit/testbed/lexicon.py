"""The words of the world: everyday nouns, names and turns of phrase, by rule name.

Written for this project. The names of planted people, places and things are not here: they are invented, seed
by seed, in ``names.py``, so that no story can mention them.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    """Entries between bars."""
    return tuple(text.split("|"))


GIRLS = _words(
    "Anna|Bella|Clara|Daisy|Edith|Flora|Greta|Hazel|Iris|Jenny|Kitty|Lucy|Molly|Nora|Olive|Polly|Rosa|Sally|"
    "Tilda|Wendy|Alma|Betty|Celia|Dora|Ellen|Fanny|Gwen|Hetty|Ivy|June|Mabel|Nelly"
)
BOYS = _words(
    "Adam|Ben|Caleb|Dan|Edgar|Fred|George|Harry|Ivan|Jack|Karl|Leo|Max|Ned|Oscar|Peter|Ralph|Sam|Tom|Victor|"
    "Will|Albert|Bruno|Chester|Dennis|Ernest|Felix|Gilbert|Hugo|Jasper|Lewis|Martin"
)

# Values of the planted facts are drawn from lists that stories use too, so that only the link is new.
JOBS = _words(
    "baker|potter|tailor|miller|fisher|gardener|clockmaker|teacher|painter|carpenter|shepherd|doctor|printer|"
    "glassblower|blacksmith|weaver|beekeeper|ferryman|postman|shoemaker|roofer|librarian|juggler|candlemaker"
)
HOMES = _words(
    "lighthouse|windmill|houseboat|stone tower|red cottage|barn|castle|wooden hut|tree house|caravan|chapel|"
    "farmhouse|boathouse|watermill|inn|round house|cellar|glass house|cabin|manor|school house|station|tent|"
    "villa"
)
FOODS = _words(
    "plum cake|onion soup|apple pie|fried fish|honey bread|bean stew|cherry jam|roast chicken|mushroom pie|"
    "pea soup|lemon tart|potato salad|ginger biscuits|goat cheese|rice pudding|pear jelly|oat porridge|nut bread|"
    "cabbage rolls|pumpkin soup|pickled eggs|carrot cake|buttered corn|berry pancakes"
)
INSTRUMENTS = _words(
    "flute|violin|drum|trumpet|piano|harp|guitar|cello|organ|banjo|whistle|horn|fiddle|lute|tuba|clarinet|"
    "accordion|bagpipe|mandolin|zither"
)
PETS = _words(
    "parrot|tortoise|goat|rabbit|hedgehog|donkey|goose|ferret|pigeon|lizard|hamster|spaniel|pony|raven|otter|"
    "kitten|toad|peacock|squirrel|piglet|terrier|canary|llama|hen"
)
COLOURS = _words(
    "red|blue|green|yellow|white|black|grey|brown|purple|orange|pink|golden|silver|violet|scarlet|turquoise"
)
COLLECTIONS = _words(
    "brass buttons|old coins|sea shells|postage stamps|glass marbles|bird feathers|rusty keys|tin soldiers|"
    "paper fans|smooth stones|candle stubs|silk ribbons|wine corks|clay pipes|dried flowers|wooden spoons|"
    "broken watches|silver thimbles|theatre tickets|butterflies|maps|teapots|hat pins|playing cards"
)
FEARS = _words(
    "thunder|spiders|deep water|the dark|high ladders|wasps|loud bells|snakes|horses|mirrors|crowds|fog|geese|"
    "bats|narrow bridges|cats|fire|frogs|strong wind|moths"
)

WORDS: dict[str, tuple[str, ...]] = {
    "job": JOBS,
    "home": HOMES,
    "food": FOODS,
    "instrument": INSTRUMENTS,
    "pet": PETS,
    "colour": COLOURS,
    "collection": COLLECTIONS,
    "fear": FEARS,
    "place": _words(
        "the market|the forest|the harbour|the river bank|the old bridge|the hill|the village square|the orchard|"
        "the meadow|the school|the mill pond|the beach|the railway station|the garden|the churchyard|the bakery|"
        "the library|the lake|the town hall|the crossroads|the quarry|the vineyard|the attic|the stable|"
        "the playground|the marsh|the ruined wall|the workshop|the ferry landing|the wood shed"
    ),
    "noun": _words(
        "key|lantern|kite|basket|hat|whistle|box|coat|cup|ring|map|ball|boat|ladder|book|scarf|drum|mirror|"
        "spoon|bell|wheel|blanket|bottle|feather|letter|shoe|button|umbrella|clock|jar|candle|rope|bucket|"
        "hammer|needle|purse|picture|stool|brush|telescope"
    ),
    "nouns": _words(
        "keys|lanterns|kites|baskets|hats|coats|cups|rings|maps|boats|ladders|books|scarves|mirrors|spoons|"
        "bells|wheels|blankets|bottles|feathers|letters|candles|ropes|buckets|hammers|pictures|stools"
    ),
    "adjective": _words(
        "small|old|shiny|broken|wooden|heavy|strange|beautiful|dusty|tiny|crooked|bright|soft|rusty|painted|"
        "torn|round|empty|warm|forgotten|plain|smooth|noisy|narrow|precious|striped|cracked|silver|blue|red"
    ),
    "animal": _words(
        "dog|cat|fox|horse|cow|duck|mouse|owl|bear|sheep|crow|frog|hare|deer|badger|beaver|swan|seal|wolf|"
        "rooster|mole|goat|rabbit|donkey|otter|hedgehog"
    ),
    "trait": _words(
        "brave|shy|clever|patient|stubborn|cheerful|careful|curious|lazy|truthful|gentle|proud|quiet|kind|"
        "forgetful|hungry|merry|serious|restless|polite"
    ),
    "elder": _words("grandmother|grandfather|aunt|uncle|mother|father|teacher|neighbour|big sister|big brother"),
    "time": _words(
        "one morning|one evening|one afternoon|on a Monday|on a Sunday|one winter night|early in spring|"
        "late in summer|on the first day of autumn|after breakfast|before dinner|just before dawn|"
        "at noon|on market day|during the holidays|a week before the harvest|on the longest day of the year|"
        "when the snow had melted"
    ),
    "later": _words(
        "after a while|an hour later|soon|by and by|a little later|that same evening|before long|at last|"
        "the next day|two days later|when the clock struck four|as the sun went down|in the meantime"
    ),
    "weather": _words(
        "the sun was shining|it was raining hard|a cold wind blew|snow was falling|the fog was thick|"
        "the sky was clear|dark clouds hung over the roofs|it was a warm and windless day|thunder rolled far away|"
        "the air smelled of hay|frost covered the grass|a rainbow stood over the fields|the moon was full|"
        "leaves were blowing about|the evening was mild"
    ),
    "adverb": _words(
        "slowly|quickly|carefully|quietly|happily|gladly|eagerly|softly|bravely|gently|calmly|firmly|politely|"
        "patiently|proudly"
    ),
    "feeling": _words(
        "happy|sad|tired|proud|worried|surprised|glad|angry|lonely|excited|ashamed|hopeful|nervous|thankful|"
        "puzzled|relieved"
    ),
    "sound": _words(
        "a bark|a loud crash|a faint whistle|someone singing|a knock at the door|the church bell|a soft cry|"
        "footsteps|the hoot of an owl|a splash|laughter|the creak of a gate|a deep voice|galloping hooves"
    ),
    "furniture": _words(
        "table|bench|bed|stove|cupboard|window|door|stairs|shelf|chest|chair|fence|wall|well|tree|hay cart"
    ),
    "month": _words("January|February|March|April|May|June|July|August|September|October|November|December"),
    "number": _words("two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|a hundred"),
    "crop": _words("apples|pears|plums|beans|potatoes|cherries|carrots|onions|cabbages|pumpkins|nuts|berries"),
    "work": _words(
        "sweep the floor|feed the hens|paint the fence|carry water|chop the wood|mend the roof|pick the {crop}|"
        "wash the dishes|fold the sheets|clean the stable|bake {food}|polish the boots|water the flowers|"
        "stack the hay"
    ),
    "game": _words(
        "hide and seek|marbles|a guessing game|cards|chess|a race around the {furniture}|skipping rope|"
        "throwing stones into the water|telling riddles|building towers"
    ),
    "good": _words("lovely|splendid|wonderful|fine|perfect|delightful|excellent"),
    "said": _words("said|cried|whispered|answered|called|replied|shouted|murmured|explained"),
}


def all_words() -> frozenset[str]:
    """Every single word of the lexicon in lower case, so that invented names can keep clear of them."""
    words: set[str] = {name.lower() for name in (*GIRLS, *BOYS)}
    for entries in WORDS.values():
        for entry in entries:
            words.update(entry.replace("{", " ").replace("}", " ").lower().split())
    return frozenset(words)
