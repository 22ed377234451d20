"""Runs sections of pages that need the packages of hubs: servers in the background, commands beside what they talk to."""

import asyncio
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pages import ROOT, Block, blocks, commands, page_module, run_python
from serving import served


def section(name: str, heading: str) -> list[Block]:
    """The blocks of one section that run, at least one."""
    found = [block for block in blocks(ROOT / "docs" / f"{name}.md") if block.runs and block.section == heading]
    assert found, f"docs/{name}.md shows nothing under {heading}"
    return found


def run_section(name: str, heading: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a section in `folder`; `uvicorn.run` serves on a free port until its end, and returns at once."""
    import uvicorn

    page, address = ROOT / "docs" / f"{name}.md", "localhost:8000"
    module, hosts = page_module(page, monkeypatch), [address]
    monkeypatch.chdir(folder)
    with ExitStack() as stack:
        monkeypatch.setattr(uvicorn, "run", lambda app: hosts.append(stack.enter_context(served(app))))
        for block in section(name, heading):
            if block.language == "python":
                run_python(replace(block, text=block.text.replace(address, hosts[-1])), module, page)
            else:
                for words in commands(block):
                    run_command(words, folder)


def run_command(words: list[str], folder: Path) -> None:
    if words[:3] == ["python", "-m", "arpo_envs.hubs.mcp"]:
        asyncio.run(list_tools(words[1:]))
    else:
        assert words[0] == "vf-eval", f"no test knows how to run {words}"
        evaluate(words[1:], folder)


async def list_tools(arguments: list[str]) -> None:
    from mcp import Client, StdioServerParameters

    async with Client(StdioServerParameters(command=sys.executable, args=arguments)) as client:
        assert {"reset", "fork", "close", "answer"} < {tool.name for tool in (await client.list_tools()).tools}


def evaluate(arguments: list[str], folder: Path) -> None:
    from verifiers_runs import evaluated, model

    with model(lambda messages: "<answer>no idea</answer>") as (url, _):
        episodes = evaluated(folder, url, *arguments)
    traces = [trace for episode in episodes for trace in episode["traces"]]
    assert [found["errors"] for found in (*episodes, *traces)] == [[]] * (len(episodes) + len(traces))
    assert {trace["rewards"]["reward"]["score"] for trace in traces} == {0.0}
