"""The laws of policies, by name."""

import enum


class Law(enum.StrEnum):
    """What must hold of a policy; the value is the law as a sentence."""

    SHAPES = "a generation is well-formed"
    LIMITS = "an action ends after max_tokens at the latest, and finish says why it ended"
    EXACT_IDS = "the model sees the ids of the context, whatever they spell"
    LOGPROBS = "log-probabilities are the model's, at the temperature"
    ENTROPIES = "entropies are the model's"
    GREEDY = "at temperature 0 the likeliest token is drawn"
    DRAWS = "tokens are drawn from the whole distribution"
    STOP_TOKENS = "a stop token ends the action and belongs to it"
    STOP_STRINGS = "the first stop string ends the action and belongs to it"
    STOP_SEAM = "a stop string is found across the seam between a probe and its continuation"
    SEEDS = "the same seed draws the same tokens"
    SIBLINGS = "different seeds draw different tokens"
    SPLIT = "a probe and its continuation equal one call"
    BATCH = "a result does not depend on who else is there"
    LOAD = "many requests at once each get their own answer"
    UNICODE = "any text may stand in the context, cut anywhere"
    CANCEL = "a cancelled request makes room, and the others go on"
    EMPTY = "an empty request is refused with a ConfigError"
    TOO_LONG = "a request beyond the context length is refused with a ConfigError that names it"
    VERSION = "generations report the version of the weights that were loaded last"
    WEIGHTS = "after a load, log-probabilities are the new weights'"
    STALE = "after a load, nothing remembered under the old weights is used"
    CLOSE = "closing ends what is under way, and may be done twice"
