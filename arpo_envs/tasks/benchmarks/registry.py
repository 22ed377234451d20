"""The benchmarks by name.

Hub ids, splits and revisions are those that public evaluation code pins; `revision=None` says that we know of none.
"""

from collections.abc import Mapping
from dataclasses import replace

from ...errors import unknown_name
from .decoding import gaia, hle, xbench
from .record import Benchmark, Hub

_MATHS = Benchmark(
    name="",
    title="",
    hub=Hub("", "test"),
    layout="math",
    metric="accuracy",
    env="ARPO/Python-v0",
    tools=("python",),
    licence="MIT",
)
_AIME = replace(_MATHS, layout="aime", licence="unknown")
_FACTS = replace(_MATHS, layout="qa", metric="f1", env="ARPO/Search-v0", tools=("search",))
_DEEP = replace(_FACTS, metric="judge", env="ARPO/DeepSearch-v0", tools=("search", "browser.open", "browser.find", "python"))

_GSM8K = Hub("openai/gsm8k", "test", "main", "740312add88f781978c0658806c59bc2815b9866")
_MATH = Hub("DigitalLearningGmbH/MATH-lighteval", "test", "default", "0530c78699ea5e8eb5530600900e1f328b48acad")
_MATH500 = Hub("HuggingFaceH4/MATH-500", "test", None, "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be")
_AIME24 = Hub("HuggingFaceH4/aime_2024", "train", None, "2fe88a2f1091d5048c0f36abc874fb997b3dd99a")
_AIME25 = Hub("math-ai/aime25", "test", None, "563bb8404243c5f09de6ec262f2db674fe5bce9b")
_HOTPOTQA = Hub("hotpotqa/hotpot_qa", "validation", "distractor", "1908d6afbbead072334abe2965f91bd2709910ab")
_MUSIQUE = Hub("dgslibisey/MuSiQue", "validation", None, "c8f4f8c9465fb69d31a8eae894c3fd509c4ca321")
_SIMPLEQA = Hub("basicv8vc/SimpleQA", "test", None, "e319282ab125c3dbd0c7fd00be2e4dd54e7e8f94")
_GAIA = Hub("gaia-benchmark/GAIA", "validation", "2023_all", "682dd723ee1e1697e00360edccf2366dc8418dd9")
_HLE = Hub("cais/hle", "test", None, "5a81a4c7271a2a2a312b9a690f0c2fde837e4c29")
_FLASH_RAG = "RUC-NLPIR/FlashRAG_datasets"


def _terms(hub: Hub) -> str:
    return (
        f"Log in at https://huggingface.co/datasets/{hub.id}, accept its terms, and run `hf auth login`. "
        "Its authors ask that no question or answer is published again."
    )


_XBENCH = (
    "Download DeepSearch.csv from https://huggingface.co/datasets/xbench/DeepSearch. It is open but encrypted, and is "
    "decrypted only in memory: its authors ask that no plain copy is published."
)

_ALL = (
    replace(_AIME, name="aime24", title="AIME 2024", hub=_AIME24),
    replace(_AIME, name="aime25", title="AIME 2025", hub=_AIME25),
    replace(_MATHS, name="math500", title="MATH-500", hub=_MATH500),
    replace(_MATHS, name="gsm8k", title="GSM8K", hub=_GSM8K, layout="gsm8k"),
    replace(_MATHS, name="math", title="MATH", hub=_MATH),
    replace(_FACTS, name="hotpotqa", title="HotpotQA", hub=_HOTPOTQA, licence="CC BY-SA 4.0"),
    replace(_FACTS, name="2wiki", title="2WikiMultiHopQA", hub=Hub(_FLASH_RAG, "dev", "2wikimultihopqa"), licence="Apache-2.0"),
    replace(_FACTS, name="musique", title="MuSiQue", hub=_MUSIQUE, licence="CC BY 4.0"),
    replace(_FACTS, name="bamboogle", title="Bamboogle", hub=Hub(_FLASH_RAG, "test", "bamboogle")),
    replace(_DEEP, name="webwalker", title="WebWalkerQA", hub=Hub("callanwu/WebWalkerQA", "main"), licence="Apache-2.0"),
    replace(
        _DEEP,
        name="gaia",
        title="GAIA",
        hub=_GAIA,
        licence="not to be redistributed",
        access=_terms(_GAIA),
        gated=True,
        columns=gaia,
    ),
    replace(
        _DEEP,
        name="hle",
        title="Humanity's Last Exam",
        hub=_HLE,
        licence="unknown",
        access=_terms(_HLE),
        gated=True,
        columns=hle,
    ),
    replace(
        _DEEP,
        name="xbench",
        title="xbench-DeepSearch",
        hub=Hub("xbench/DeepSearch", "train"),
        licence="unknown",
        access=_XBENCH,
        gated=True,
        columns=xbench,
    ),
    replace(_FACTS, name="simpleqa", title="SimpleQA", hub=_SIMPLEQA, metric="judge"),
)

BENCHMARKS: Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
"""By name."""


def find_benchmark(name: str) -> Benchmark:
    """Returns a benchmark by its name, in capitals or not.

    Raises:
        ConfigError: there is none of that name.

    >>> find_benchmark("GSM8K").env, find_benchmark("gsm8k").answer_type
    ('ARPO/Python-v0', 'number')
    """
    if name.lower() not in BENCHMARKS:
        raise unknown_name("benchmark", name, BENCHMARKS)
    return BENCHMARKS[name.lower()]
