"""What the rendered people say: short sentences written for this corpus."""

import numpy as np

TRAIN = (
    "We opened the map on the kitchen table.",
    "My brother paints boats in the summer.",
    "Five more apples will make a good pie.",
    "Please move the blue box before lunch.",
    "A warm wind came over the hill.",
    "Nobody believed the story about the fox.",
    "The bus leaves from platform seven.",
    "Have you ever baked bread at home?",
    "She put the paper back above the stove.",
    "Our neighbour has a very big umbrella.",
    "They walked along the empty beach.",
    "What time does the museum open?",
    "I would love another cup of coffee.",
    "Maybe we should wait for the morning.",
    "The puppy found a purple ball.",
    "You may borrow my favourite book.",
    "It was a long way to the farm.",
    "He played the same song all evening.",
    "Put both bowls on the wooden bench.",
    "The map on the wall is upside down.",
    "Bob built a boat from old boards.",
    "Few people know how far it is.",
    "Why did you paint the garage yellow?",
    "Mama made pumpkin soup for everybody.",
    "The weather may improve by Monday.",
    "Above the clouds the sky is always blue.",
    "We saw five foxes behind the fence.",
    "Remember to bring warm boots.",
    "I am happy about the new piano.",
    "How many people will be on board?",
    "The old clock stopped at half past four.",
    "Open your mouth and say hello.",
    "A farmer moved his sheep over the bridge.",
    "There is more room in the back.",
    "Perhaps the money was never there.",
    "You have to follow the river south.",
    "My mother loves to sing in the car.",
    "Both of them arrived before noon.",
    "Pour some water into the bottle.",
    "I thought the film was far too long.",
    "Somebody left a wallet on the floor.",
    "The moon was bright above the valley.",
    "We are going to plant a maple tree.",
    "Give the baby a piece of banana.",
    "Papa bought a bag of brown beans.",
    "The problem is not as big as it seems.",
    "Five waves followed the small ship.",
    "You know more about music than I do.",
)

TEST = (
    "The bakery opens at about half past six.",
    "Our plan is to move in before May.",
    "I have a feeling it will be fine.",
    "Who put the puzzle back in the box?",
    "Bright umbrellas filled the whole beach.",
    "A happy boy rode past on a bike.",
    "We may never find the other boot.",
    "The mayor spoke for over an hour.",
    "Please show me how to fold the map.",
    "Above all, people want more time.",
    "My apartment is above the flower shop.",
    "Every morning he boils four eggs.",
    "The whole family came to visit us.",
    "What a beautiful voice you have.",
    "They painted the boat pale blue.",
    "Move the lamp a bit farther away.",
    "Snow fell on the village all day.",
    "I wonder who baked all these muffins.",
    "Both paths go up to the farmhouse.",
    "You should wear something warm.",
)


def shuffled(sentences: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
    """As many sentences of the same words, in another order and without sense, each of three to nine words.

    One word in eight is followed by a comma, which the voices read as a pause.
    """
    words = [word.strip(",") for sentence in sentences for word in sentence.lower().rstrip(".?").split()]
    words = [words[i] + "," * (rng.uniform() < 1 / 8) for i in rng.permutation(len(words))]
    ends = np.cumsum(rng.integers(3, 10, size=len(sentences)))
    return tuple(
        " ".join(words[a:b]).rstrip(",").capitalize() + "."
        for a, b in zip([0, *ends], ends, strict=False)
        if words[a:b]
    )
