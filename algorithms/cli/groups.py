"""The headings under which `arpo train --help` lists its options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """Options that are listed together.

    Args:
        name: the heading.
        about: what the options decide, in a sentence.
        options: their names, in the order in which they are listed.
    """

    name: str
    about: str
    options: tuple[str, ...]


GROUPS = (
    Group(
        "task",
        "What the policy is asked, in training and in evaluation.",
        ("env", "env_args", "train_args", "eval_args", "eval_questions", "eval_every", "prompt", "examples"),
    ),
    Group(
        "tools",
        "Whether tools run, or their results come from a recording.",
        ("tools", "recording"),
    ),
    Group(
        "policy",
        "The model to train, and where its weights come from.",
        ("policy", "policy_args", "model_folder", "cold_start", "weights_folder"),
    ),
    Group(
        "algorithm",
        "How rollouts branch, and how credit is assigned to them.",
        ("algorithm", "rollouts", "roots", "probe", "algorithm_args", "shuffle_rewards"),
    ),
    Group(
        "run",
        "How long to train, and whether to resume an earlier run or only check the options.",
        ("steps", "budget_calls", "prompts", "seed", "resume", "dry_run"),
    ),
    Group(
        "sampling",
        "How actions are sampled, and how long actions and episodes may be.",
        (
            *("temperature", "action_tokens", "context_length", "idle_turns", "mode"),
            *("engine", "engine_args", "engine_tolerance", "verify_every"),
        ),
    ),
    Group(
        "optimisation",
        "How the learner turns rollouts into new weights.",
        (
            *("learning_rate", "warmup", "decay", "weight_decay", "adam_epsilon", "gradient_clip"),
            *("epochs", "minibatches", "entropy_bonus", "importance", "importance_cap", "lora"),
        ),
    ),
    Group(
        "distribution",
        "How many processes collect rollouts and train, where they run, and whether collecting and training overlap.",
        ("cluster", "engines", "learners", "ahead"),
    ),
    Group(
        "memory and speed",
        "What a step costs. None of these options changes what is learned, apart from rounding.",
        ("device", "threads", "micro_batch_tokens", "packing", "attention", "autocast", "gradient_checkpointing"),
    ),
    Group(
        "output and tracking",
        "What a run writes, and where.",
        (
            *("output", "checkpoint_every", "wait_for_checkpoints", "keep_trees"),
            *("track", "track_gated", "wandb_project", "wandb_mode"),
        ),
    ),
)
"""Each option of `arpo train` stands in exactly one of them."""
