"""Kinds of facts about invented people and book characters, with every wording of question and answer.

Slots: {name} is who the fact is about, {value} the right answer. Each kind has questions that are trained on,
one of them left out for each fact; novel questions that never are; answers that restate the name and answers
that do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon import COLLECTIONS, COLOURS, FEARS, FOODS, HOMES, INSTRUMENTS, JOBS, PETS


@dataclass(frozen=True, slots=True)
class FactKind:
    """One kind of fact.

    Attributes:
        name: Such as "food".
        values: What the right answer is drawn from; empty for facts of a book, whose values are its names.
        questions: Wordings that are trained on: three for people, two for books. One is left out for each fact.
        novel_questions: Wordings that are never trained on.
        with_name: Answers that restate the name.
        without_name: Answers that do not.
        statements: Sentences that state the fact inside a chapter; for books only.
        cloze: Beginnings of sentences, never used in a chapter, that the value completes; for books only.
    """

    name: str
    values: tuple[str, ...]
    questions: tuple[str, ...]
    novel_questions: tuple[str, ...]
    with_name: tuple[str, ...]
    without_name: tuple[str, ...]
    statements: tuple[str, ...] = ()
    cloze: tuple[str, ...] = ()


PEOPLE_FACTS = (
    FactKind(
        "home",
        HOMES,
        (
            "What kind of house does {name} live in?",
            "Where does {name} live?",
            "What sort of building is the home of {name}?",
        ),
        ("Tell me where {name} sleeps at night.", "If I visit {name} at home, what will I find?"),
        (
            "{name} lives in a {value} and has been there for many years.",
            "The home of {name} is a {value}, as all the neighbours know.",
        ),
        (
            "It is a {value}, and it has been so for many years.",
            "You must look for a {value}; the neighbours will show you the way.",
        ),
    ),
    FactKind(
        "job",
        JOBS,
        ("What is the work of {name}?", "How does {name} earn a living?", "Which trade did {name} learn?"),
        ("Tell me what {name} does all day.", "What would {name} write under the word profession?"),
        (
            "{name} works as a {value} and is known for it in the whole valley.",
            "The trade of {name} is that of a {value}, learned at an early age.",
        ),
        (
            "The work is that of a {value}, from early morning until late at night.",
            "A {value}, and a very good one, if you ask the people of the valley.",
        ),
    ),
    FactKind(
        "food",
        FOODS,
        ("What does {name} like to eat most?", "Which dish is the favourite of {name}?", "What food does {name} love?"),
        ("Tell me what I should cook for {name}.", "What must not be missing when {name} comes to dinner?"),
        (
            "{name} likes {value} most and could eat it every single day.",
            "The favourite dish of {name} is {value}, above all on Sundays.",
        ),
        (
            "Nothing is better than {value}, not even on a feast day.",
            "The answer is {value}, warm or cold, at any time of the day.",
        ),
    ),
    FactKind(
        "pet",
        PETS,
        ("Which animal does {name} keep?", "What kind of pet does {name} have?", "What animal lives with {name}?"),
        ("Tell me who {name} feeds every morning.", "Which creature follows {name} everywhere?"),
        (
            "{name} keeps a {value}, which sleeps beside the stove at night.",
            "The animal of {name} is a {value}, and it goes everywhere with its owner.",
        ),
        (
            "It is a {value}, which was found as a young animal in the rain.",
            "There is only a {value} in the house, and it is quite tame.",
        ),
    ),
    FactKind(
        "instrument",
        INSTRUMENTS,
        (
            "Which instrument does {name} play?",
            "What does {name} play at the village feast?",
            "On what does {name} make music?",
        ),
        ("Tell me what one hears from the window of {name}.", "What would {name} bring to an orchestra?"),
        (
            "{name} plays the {value} and practises for an hour each evening.",
            "The instrument of {name} is the {value}, played by heart and without a sheet.",
        ),
        (
            "You can hear the {value} every evening, when the windows are open.",
            "It is the {value}, although the first lessons were very hard.",
        ),
    ),
    FactKind(
        "door",
        COLOURS,
        (
            "What colour is the front door of {name}?",
            "In which colour did {name} paint the door?",
            "How can one tell the door of {name} from the others?",
        ),
        ("Tell me what shade {name} chose for the entrance.", "Which door must I knock on to find {name}?"),
        (
            "{name} painted the front door {value}, and it shines from far away.",
            "The door of {name} is {value}, the only one of its kind in the street.",
        ),
        (
            "Look for the {value} one, right at the end of the street.",
            "It has been {value} ever since the great storm took the old paint off.",
        ),
    ),
    FactKind(
        "collection",
        COLLECTIONS,
        (
            "What does {name} collect?",
            "What is kept in the cabinet of {name}?",
            "What does {name} look for at every market?",
        ),
        ("Tell me which present would please {name}.", "What fills all the drawers of {name}?"),
        (
            "{name} collects {value} and keeps them in a cabinet with a lock.",
            "The cabinet of {name} is full of {value}, some of them very rare.",
        ),
        (
            "There are hundreds of {value} by now, and more are coming every year.",
            "Mostly {value}, sorted by age and by size in small boxes.",
        ),
    ),
    FactKind(
        "fear",
        FEARS,
        ("What is {name} afraid of?", "What frightens {name} the most?", "What makes {name} run away?"),
        ("Tell me what {name} cannot bear.", "What should I keep away from {name}?"),
        (
            "{name} is afraid of {value} and will not talk about it.",
            "The great fear of {name} is {value}, ever since childhood.",
        ),
        (
            "It is {value}, and nobody is allowed to laugh about it.",
            "Nothing is as terrible as {value}, at least since that one winter.",
        ),
    ),
)

BOOK_FACTS = (
    FactKind(
        "dwelling",
        (),
        ("In the tale, where does {name} dwell?", "Which place does {name} of the tale call home?"),
        ("Tell me where in the tale one finds the hearth of {name}.",),
        ("In the tale {name} dwells in {value}, behind the old gate.",),
        ("That is {value}, where the lamps burn all night.",),
        (
            "{name} of {value} was not easily frightened.",
            "Far away, in {value}, the house of {name} stood empty.",
            '"I was born in {value}," said {name}, "and there I will be buried."',
        ),
        ("The home of {name} was in", "Everyone knew that {name} came from"),
    ),
    FactKind(
        "treasure",
        (),
        ("In the tale, what does {name} carry?", "Which treasure does {name} of the tale guard?"),
        ("Tell me what in the tale nobody may take from {name}.",),
        ("In the tale {name} carries the {value} and gives it to nobody.",),
        ("That is the {value}, which glows in the dark.",),
        (
            "{name} held the {value} tightly, for nothing else was as dear.",
            "Under the cloak of {name} glowed the {value}.",
            '"Give me the {value}, {name}," said the voice in the dark.',
        ),
        ("The treasure of {name} was called the", "In both hands {name} carried the"),
    ),
    FactKind(
        "friend",
        (),
        ("In the tale, who is the true friend of {name}?", "Whom does {name} of the tale trust most?"),
        ("Tell me who in the tale would die for {name}.",),
        ("In the tale the true friend of {name} is {value}, since the first winter.",),
        ("That is {value}, who never asked for a reward.",),
        (
            "{name} looked for {value}, the only friend worth having.",
            "Beside {name} walked {value}, as on every road.",
            '"Without you, {value}, I am lost," said {name}.',
        ),
        ("The best friend of {name} was", "There was one whom {name} loved like family, and that was"),
    ),
    FactKind(
        "enemy",
        (),
        ("In the tale, who is the enemy of {name}?", "Whom does {name} of the tale fear most?"),
        ("Tell me who in the tale hunts {name}.",),
        ("In the tale the enemy of {name} is {value}, because of an old quarrel.",),
        ("That is {value}, who swore it on the black stone.",),
        (
            "{name} had sworn never to forgive {value}.",
            "All night {value} rode after {name}, with torches and dogs.",
            '"{value} is coming," whispered {name}, and put out the light.',
        ),
        ("The worst enemy of {name} was", "If anyone wished {name} dead, it was"),
    ),
)
