"""Story templates: ten plots of five beats, openings, asides and endings. Slots are rules of `RULES`.

Bound for a whole story: hero, he, his, him (the hero's), friend, elder, animal, thing ("rusty key"), place, far
(another place), food, game. Everything else is drawn afresh each time.
"""

from __future__ import annotations

from .lexicon import WORDS

OPENINGS = (
    "{time}, {hero} was walking near {place}.",
    "There once was a {trait} child called {hero}, who lived not far from {place}.",
    "{hero} was the most {trait} child in the village, and {he} loved {place} more than anything.",
    "{time}, {weather}, and {hero} did not want to stay at home.",
    "{hero} and {his} {elder} lived in a {home} behind {place}.",
    "Nobody in the village was as {trait} as {hero}.",
    '"What a {good} day," {said} {hero} {time}.',
    "{hero} had {number} {crop} in {his} pocket and nothing to do.",
    "Every week {hero} helped the {job} at {place}.",
    "{time}, {his_elder} sent {hero} to {place} with some {food}.",
    "{weather} when {hero} opened the {furniture_outside} {time}.",
    "In a {home} near {place} lived a {trait} child whose name was {hero}.",
)

ASIDES = (
    "{weather}.",
    "Somewhere behind {place} there was {sound}.",
    "{friend} sat down on a {furniture} and ate some {food}.",
    "It made {hero} think of the {job} and the {colour} {noun} in the window.",
    "A {adjective} {noun} lay on the {furniture}, but nobody looked at it.",
    "{hero} felt {feeling} and {feeling} at the same time.",
    "The {job} was playing the {instrument}, as always {time_of_day}.",
    'The {animal} looked at {him} as if it wanted to say, "Be {trait}!"',
    "There were {number} {crop} on the ground, and {hero} counted them {adverb}.",
    "{later}, the {job} and the {job} walked by and {said} a few words about {collection}.",
    "{hero} was a little afraid of {fear}, but {he} did not say so.",
    "From far away came the sound of a {instrument}.",
    "{his_elder} always said that a {trait} child needs {food} and a good night's sleep.",
    "It was {month}, and the {crop} were nearly ripe.",
)

ENDINGS = (
    "That night {hero} slept well and dreamed of {place}.",
    "From that day on, {hero} and {friend} were the best of friends.",
    "And the {animal}? It is still living at {place}.",
    '"Tomorrow we will do it again," {said} {hero}.',
    "When {hero} told {his_elder}, they both laughed until the {food} was cold.",
    "{hero} was {feeling}, but most of all {he} was {feeling}.",
    "So they all ate {food} together, and {weather}.",
    "{hero} never forgot what the {job} had said.",
    "{he} put the {thing} on the {furniture}, where it lies to this day.",
    "After that, nobody called {hero} {trait} any more.",
    "They walked home {adverb}, and the {animal} followed them.",
    "It had been a long day, and everybody was {feeling}.",
)

PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lost": (
        (
            "{he} looked everywhere for {his} {thing}, but it was gone.",
            "The {thing} that {his_elder} had given {him} was lost.",
            "{hero} put a hand in {his} pocket and found that the {thing} was missing.",
        ),
        (
            "{hero} asked the {job}, who had not seen it.",
            '"Have you seen a {thing}?" {he} {said}. The {job} shook his head.',
            "{he} searched behind the {furniture} and under the {furniture}.",
        ),
        (
            "{later}, {friend} came and helped {him} look at {far}.",
            '"I will help you," {said} {friend}, and they went to {far}.',
            "{friend} had an idea and ran {adverb} to {far}.",
        ),
        (
            "There sat a {animal} with the {thing} between its feet.",
            "The {thing} was hanging on the {furniture}, just where {hero} had left it.",
            "The {animal} had hidden the {thing} under some {crop}.",
        ),
        (
            "{hero} gave the {animal} a piece of {food} and took the {thing} back {adverb}.",
            '"Here it is!" {said} {hero}, and {he} was {feeling} again.',
            "{he} promised to take better care of the {thing}.",
        ),
    ),
    "guest": (
        (
            "{later} there was {sound} at the {furniture_outside}.",
            "A stranger with a {adjective} {noun} was standing at {place}.",
            "{he} met a {animal} that could not find its way home.",
        ),
        (
            '"Who are you?" {said} {hero}.',
            "The stranger looked {feeling} and very tired.",
            "{hero} did not know what to do, so {he} fetched {his_elder}.",
        ),
        (
            "They gave the guest {food} and a place near the {furniture}.",
            "{his_elder} {said} that every guest must have {food} first.",
            "{friend} brought a {adjective} blanket and some {crop}.",
        ),
        (
            "Then the guest told them about {far} and about a {job} with {number} {nouns}.",
            "The guest could play the {instrument}, and they listened until it was dark.",
            "They played {game} and laughed {adverb}.",
        ),
        (
            "In the morning the guest was gone, but there was a {thing} on the {furniture}.",
            '"Come back soon," {said} {hero} {adverb}.',
            "The guest gave {hero} a {thing} to say thank you.",
        ),
    ),
    "making": (
        (
            "{hero} wanted to make a {thing} for {his_elder}.",
            '"I am going to build a {thing}," {said} {hero}.',
            "{hero} had seen a {thing} in the window of the {job} and wanted one just like it.",
        ),
        (
            "{he} needed a {noun}, a {noun} and {number} nails.",
            "First {he} went to {far} to find some wood.",
            "{friend} lent {him} a {noun}, and the {job} gave {him} some {colour} paint.",
        ),
        (
            "The first try broke, and {hero} was {feeling}.",
            "It was too heavy, and {friend} laughed at it.",
            "{he} worked {adverb} until the light was gone.",
        ),
        (
            '"Try it with {colour} thread," {said} the {job}.',
            "{later}, {friend} held the {noun} while {hero} worked {adverb}.",
            "{his_elder} showed {him} how a {job} would do it.",
        ),
        (
            "When the {thing} was finished, it was {good}.",
            '"It is the most {adjective} thing I have ever seen," {said} {his_elder}.',
            "Everyone at {place} came to look at the {thing}.",
        ),
    ),
    "trade": (
        (
            "At {place} a {job} was selling {collection}.",
            "{hero} took a {thing} to {place}, for {he} wanted to trade it.",
            "{hero} wanted to buy {food}, but {he} had no money.",
        ),
        (
            '"I will give you a {noun} for your {thing}," {said} the {job}.',
            "The {job} offered {number} {crop} for it.",
            '"That is not enough," {said} {hero} {adverb}.',
        ),
        (
            "{friend} whispered that the {job} was not to be trusted.",
            "{hero} thought about it and ate some {food}.",
            "So {he} walked on to {far}, where a {job} lived.",
        ),
        (
            "In the end {hero} traded the {thing} for a {adjective} {noun}.",
            "{he} gave the {thing} away and got a {animal} for it.",
            "They shook hands, and the {job} laughed {adverb}.",
        ),
        (
            "{his_elder} was not {feeling} about it, but {hero} was.",
            '"A {good} trade," {said} {friend}.',
            "On the way home {he} wished that {he} had kept the {thing}.",
        ),
    ),
    "storm": (
        (
            "Then the sky turned {colour}, and a storm came over {place}.",
            "{hero} and {friend} were at {place} when the storm began.",
            "The wind took the {noun} from the {furniture} and carried it away.",
        ),
        (
            '"We must go to {far}," {said} {friend}.',
            "They hid under a {furniture} and waited.",
            "A {animal} ran past them, as {feeling} as they were.",
        ),
        (
            "The rain came through the roof of the {home}.",
            "There was {sound}, and then it was quiet.",
            "{hero} held the {thing} over their heads.",
        ),
        (
            "{later}, the {job} came with a lantern and called their names.",
            "To pass the time they played {game} and shared the {food}.",
            "{hero} sang a song that {his_elder} had taught {him}.",
        ),
        (
            "When it was over, {number} trees had fallen at {far}.",
            "In the morning everything was wet, and {weather}.",
            '"That was the worst storm in {number} years," {said} the {job}.',
        ),
    ),
    "contest": (
        (
            "There was to be a contest at {place}, and the prize was a {thing}.",
            "The {job} said that the fastest child would win a {thing}.",
            "Every {month} the village held a race to {far}.",
        ),
        (
            "{hero} practised every day, and {friend} helped {him}.",
            '"You will never win," {said} {friend}. "You are too {trait}."',
            "{hero} ate {food} every morning to grow strong.",
        ),
        (
            "{number} children stood in a row, and the {job} rang a bell.",
            "At first {hero} was far behind {friend}.",
            "Then a {animal} ran across the road, and {friend} fell.",
        ),
        (
            "{hero} stopped and helped {friend} to get up.",
            "{he} could have won, but {he} turned around.",
            "{hero} ran as fast as {he} could and did not look back.",
        ),
        (
            "The {job} gave both of them the {thing}.",
            "{hero} came last, yet everyone clapped {adverb}.",
            '"That was {good}!" {said} {his_elder}.',
        ),
    ),
    "work": (
        (
            "{his_elder} asked {hero} to {work}.",
            "{hero} had to {work} before {he} could play {game}.",
            '"Today you will {work}," {said} {his_elder}.',
        ),
        (
            "{hero} did not like it and went to {place} instead.",
            "{he} began {adverb}, but soon {he} was {feeling}.",
            '{friend} came by and {said}, "Let us play {game}!"',
        ),
        (
            "{later}, {he} remembered and felt {feeling}.",
            "The {animal} got into the house and ate all the {food}.",
            "The {noun} fell from the {furniture} and broke.",
        ),
        (
            "So {hero} and {friend} worked together until evening.",
            "The {job} saw it and gave them a hand.",
            '"If we both {work}, it will go faster," {said} {friend}.',
        ),
        (
            "{his_elder} gave them {food} and {number} coins.",
            '"Well done," {said} {his_elder} {adverb}.',
            "Since then {hero} does not mind it when {he} has to {work}.",
        ),
    ),
    "secret": (
        (
            "Behind the {furniture} {hero} found a {adjective} door.",
            "{friend} knew a secret about {far}.",
            "In the {home} of the {job} there was a room that nobody was allowed to enter.",
        ),
        (
            '"Promise not to tell," {said} {friend}.',
            "{hero} opened it {adverb} with a {thing}.",
            "It was dark inside, and {he} heard {sound}.",
        ),
        (
            "There were {collection} up to the ceiling.",
            "A {animal} with {colour} eyes looked at {him}.",
            "On a {furniture} lay a letter from a {job}, {number} years old.",
        ),
        (
            '"This belongs to my {elder}," {said} {friend} {adverb}.',
            "{hero} took nothing but a {noun}.",
            "They read it together and were {feeling}.",
        ),
        (
            "To this day only {hero} and {friend} know about it.",
            "{later}, they told the {job}, who only smiled.",
            "They closed the door and hid the {thing} at {far}.",
        ),
    ),
    "sick": (
        (
            "{friend} was ill and could not leave the {home}.",
            "The {animal} had hurt its foot and could not walk.",
            "{his_elder} had a bad cold and lay in bed all day.",
        ),
        (
            "{hero} ran {adverb} to fetch the doctor.",
            '"You need {food}," {said} {hero}.',
            "The {job} said that only the flowers from {far} could help.",
        ),
        (
            "{he} went to {far} all alone, although {he} was afraid of {fear}.",
            "On the way {he} met the {job}, who carried a {adjective} {noun}.",
            "{he} cooked {food} and told the story of the {animal} and the {animal}.",
        ),
        (
            "{hero} sat by the bed and played the {instrument}.",
            "They played {game} every afternoon.",
            "{he} brought a {thing} as a present.",
        ),
        (
            "After {number} days everything was well again.",
            '"You are {trait}, {hero}, and I thank you," it was said.',
            "The first walk they took was to {place}.",
        ),
    ),
    "feast": (
        (
            "There was going to be a feast at {place}.",
            "It was the birthday of {friend}, and {hero} needed a present.",
            "The whole village was getting ready for the feast of {month}.",
        ),
        (
            "{hero} baked {food}, and {friend} hung {colour} ribbons over the {furniture}.",
            "The {job} brought {number} {crop} and a {instrument}.",
            "But the {animal} had eaten the {food}!",
        ),
        (
            "{hero} was {feeling} and did not know what to do.",
            '"Then we will cook {food} instead," {said} {his_elder}.',
            "They asked the {job} for help, and the {job} gave them {food}.",
        ),
        (
            "{later}, the guests came from {far} and from {place}.",
            "Everyone danced {adverb}, even the {job}.",
            "They played {game}, and the {animal} watched.",
        ),
        (
            "{hero} gave {friend} a {thing}, wrapped in {colour} paper.",
            "It was the most {good} feast in {number} years.",
            "When the moon was up, they sang the old songs once more.",
        ),
    ),
}

RULES: dict[str, tuple[str, ...]] = {
    **WORDS,
    "furniture_outside": ("door", "window", "gate", "garden gate"),
    "time_of_day": ("in the evening", "at noon", "on Sundays", "after work", "before dinner"),
}
