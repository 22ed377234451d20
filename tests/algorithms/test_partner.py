"""A policy as a partner: text in, text out, the same whoever asks beside it; and trees that say whose they are."""

import asyncio
import copy
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
from model_toys import byte_tokenizer, tiny_model
from small_recipes import SMALL as RECIPES
from small_recipes import small
from test_every_recipe import told

import arpo_envs
from algorithms.branching.none import NoBranching
from algorithms.policies.local import LocalPolicy
from algorithms.policies.scripted import ScriptedPolicy
from algorithms.rendering import ScriptedRenderer, TextRenderer
from algorithms.rollout import Limits, PolicyPartner, Start, collect
from algorithms.tree import Status
from arpo_envs import ConfigError, Turn, make_dialect
from arpo_envs.multi_agent import deep_search_v0, single_agent
from arpo_envs.tasks.world import load_world
from arpo_envs.tools.browser import BrowserTool, WorldSite

SMALL: dict[str, Any] = {"split": "test", "cities_per_country": 10}
TASK = {"task": "city-2886242/country/capital"}


def reads(before: str, seed: int) -> str:
    """Looks once, then writes what it knows."""
    if "match at" not in before:
        return '<browser.find>{"pattern": "country"}</browser.find>'
    return f"<answer>Germany {seed % 100}</answer>" if "draws" in before else "<answer>Germany</answer>"


def solves(before: str, seed: int) -> str:
    actions = ["<search>Köln</search>", "<read>country</read>", "<answer>Berlin</answer>"]
    return actions[before.count("</result>")]


@pytest.fixture
def partner() -> Iterator[PolicyPartner]:
    made = PolicyPartner(ScriptedPolicy(reads), ScriptedRenderer())
    yield made
    made.close()


def turn(observation: str, *, begins: bool = True, dialect: str = "tags") -> Turn:
    specs = BrowserTool(WorldSite(load_world(2)), search=False).specs
    spoken = make_dialect(dialect, specs)
    return Turn(observation, begins, spoken.instructions(), spoken, specs)


def test_a_policy_reads(partner: PolicyPartner) -> None:
    env = single_agent(deep_search_v0.env(**SMALL), "solver", reader=partner)
    env.reset(options=TASK)
    env.step("<search>Köln</search>")
    assert env.step("<read>country</read>")[0] == "<result>Germany</result>"
    assert "match at" in env.table.unwrapped.game.render()


def test_conversations_are_copied_and_the_policy_is_shared(partner: PolicyPartner) -> None:
    assert "find" in partner(turn("Question: ?"))
    twin = copy.deepcopy(partner)
    assert twin.policy is partner.policy
    assert "Germany" in partner(turn("match at L0", begins=False))
    assert "find" in twin(turn("nothing", begins=False)), "its twin has seen no match"
    assert "find" in partner(turn("Question: ?")), "a new conversation"


def test_draws_depend_on_conversation_and_seed(partner: PolicyPartner) -> None:
    def note(question: str, seed: int) -> str:
        partner.reseed(seed)
        return partner(turn(f"draws match at {question}"))

    assert note("a", 1) == note("a", 1)
    assert len({note(question, seed) for question in "abc" for seed in (1, 2)}) > 3


def test_another_dialect_is_refused(partner: PolicyPartner) -> None:
    with pytest.raises(ConfigError, match="dialect"):
        partner(turn("?", dialect="json"))


def test_without_room_it_says_nothing() -> None:
    asked = turn("?" * 100)
    prompt = len(ScriptedRenderer().start(asked.instructions, asked.observation, asked.tools))
    for room, said in ((0, ""), (8, "<browser")):
        small = PolicyPartner(ScriptedPolicy(reads, context_length=prompt + room), ScriptedRenderer())
        assert small(asked) == said
        assert small(turn("more", begins=False)) == ""
        small.close()


class Stops(ScriptedPolicy):
    """Ends where a stop string does, as engines do."""

    async def generate(self, context: Any, params: Any, *, seed: int, offset: int = 0, tail: str = "") -> Any:
        drawn = await super().generate(context, params, seed=seed, offset=offset, tail=tail)
        text = "".join(map(chr, drawn.tokens))
        end = next((end for end in range(1, len(text) + 1) if text[:end].endswith(params.stop)), 0)
        if not end:
            return drawn
        kept = await super().generate(context, replace(params, max_tokens=end), seed=seed, offset=offset, tail=tail)
        return replace(kept, finish="stop")


@pytest.mark.parametrize("most", [256, 60, 15])
def test_an_action_goes_on_behind_a_stop_string_in_a_thought_as_in_a_rollout(most: int) -> None:
    action = "<think>not </answer> yet, </browser.find> neither</think><answer>Germany</answer>"
    partner = PolicyPartner(Stops(lambda *_: action), ScriptedRenderer(), action_tokens=most)
    assert partner(turn("?")) == action[:most]
    partner.close()
    rollout = collect(
        lambda: gym.make("ARPO/SearchMini-v0"),
        [Start(seed=1)],
        Stops(lambda *_: action.replace("browser.find", "search")),
        ScriptedRenderer(),
        small("grpo"),
        seed=1,
        limits=Limits(action_tokens=most, idle_turns=1),
    )
    (tree,) = asyncio.run(rollout)
    assert tree.nodes[1].text == action.replace("browser.find", "search")[:most]


def test_a_policy_that_hangs_is_given_up() -> None:
    class Hangs(ScriptedPolicy):
        async def generate(self, *_: Any, **__: Any) -> Any:
            await asyncio.Event().wait()

    stuck = PolicyPartner(Hangs(reads), ScriptedRenderer(), timeout=0.05)
    with pytest.raises(TimeoutError):
        stuck(turn("?"))
    stuck.close()


def test_many_threads_ask_at_once(partner: PolicyPartner) -> None:
    said: dict[int, str] = {}

    def ask(number: int) -> None:
        said[number] = copy.deepcopy(partner)(turn(f"draws match at {number}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {number: copy.deepcopy(partner)(turn(f"draws match at {number}")) for number in range(8)}


def grown(partner: Any, case: str = "arpo", *, mode: Any = "deterministic", agent: str = "solver") -> list[Any]:
    other = {"reader": partner} if agent == "solver" else {"solver": partner}
    return asyncio.run(
        collect(
            lambda: single_agent(deep_search_v0.env(**SMALL), agent, **other),
            [Start(seed=1, options=TASK), Start(seed=2)],
            ScriptedPolicy(solves if agent == "solver" else reads),
            ScriptedRenderer(),
            small(case),
            seed=1,
            limits=Limits(mode=mode),
        )
    )


class Asks:
    """Searches, asks once, and answers with what it knew before."""

    said = 0

    def __call__(self, turn: Turn) -> str:
        self.said = 1 if turn.begins else self.said + 1
        return {1: "<search>Köln</search>", 2: "<read>country</read>", 3: "<answer>Berlin</answer>"}[self.said]


@pytest.mark.parametrize("mode", ["deterministic", "free"])
def test_trees_say_whose_they_are(partner: PolicyPartner, mode: str) -> None:
    trees = grown(partner, mode=mode)
    assert {node.agent for tree in trees for node in tree.nodes} == {"solver"}
    assert [trees[0].nodes[leaf].reward for leaf in trees[0].leaves()] == [1.0] * 4
    assert "Germany" in "".join(node.text for node in trees[0].nodes if node.kind == "observation")


@pytest.mark.parametrize("agent", ["solver", "reader"])
@pytest.mark.parametrize("case", RECIPES)
def test_every_algorithm_credits_either_agent(partner: PolicyPartner, case: str, agent: str) -> None:
    trees = grown(partner if agent == "solver" else Asks(), case, agent=agent)
    algorithm = small(case)
    assert {node.agent for tree in trees for node in tree.nodes} == {agent}
    assert [len(tree.leaves()) for tree in trees] == [algorithm.rollouts] * 2
    assert {tree.nodes[leaf].status for tree in trees for leaf in tree.leaves()} == {Status.ANSWERED}
    assert {trees[0].total_reward(leaf) for leaf in trees[0].leaves()} == {1.0}
    credit = algorithm.credit(trees, told(trees))
    for tree, advantages in zip(trees, credit.advantages, strict=True):
        assert [len(row) for row in advantages] == [len(tree.tokens(leaf)) for leaf in tree.leaves()]


def test_a_model_reads() -> None:
    tokenizer = byte_tokenizer()
    policy = LocalPolicy(tiny_model(max_position_embeddings=4096), tokenizer, context_length=4096)
    model = PolicyPartner(policy, TextRenderer(tokenizer, with_instructions=False), action_tokens=8, temperature=1.0)
    env = single_agent(deep_search_v0.env(reader_turns=2, **SMALL), "solver", reader=model)
    said = []
    for seed in (1, 1, 2):
        env.reset(seed=seed, options=TASK)
        env.step("<search>Köln</search>")
        twin = arpo_envs.clone(env)
        assert "wrote no note" in env.step("<read>country</read>")[0], "it was never trained"
        twin.step("<read>country</read>")
        said.append(env.game.render())
        assert twin.game.render() == said[-1]
    assert said[0] == said[1] != said[2]
    model.close()


def test_a_tree_of_one_agent_alone_names_nobody() -> None:
    class Chains:
        rollouts, branching = 1, NoBranching()

    (tree,) = asyncio.run(
        collect(
            lambda: gym.make("ARPO/SearchMini-v0"),
            [Start(seed=1)],
            ScriptedPolicy(lambda before, seed: "<answer>x</answer>"),
            ScriptedRenderer(),
            Chains(),
            seed=1,
        )
    )
    assert {node.agent for node in tree.nodes} == {""}
