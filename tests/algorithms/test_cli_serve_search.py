"""`arpo serve-search`: what it serves, and what it refuses before it serves."""

import json
from pathlib import Path
from threading import Thread

import httpx
import pytest

from algorithms.cli import main
from algorithms.cli.serve_search import ServeSearchConfig, server


def test_a_file_of_documents_is_served(tmp_path: Path) -> None:
    corpus = tmp_path / "documents.jsonl"
    corpus.write_text(json.dumps({"title": "Gamma mill", "text": "A paper mill."}) + "\n", encoding="utf-8")
    with server(ServeSearchConfig(corpus=corpus, port=0, topk=1)) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answer = httpx.post(serving.url, json={"queries": ["gamma"]}).json()
        assert httpx.get(serving.url).json()["documents"] == 1
        serving.shutdown()
        thread.join()
    assert answer == {"result": [[{"contents": '"Gamma mill"\nGamma mill: A paper mill.'}]]}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--topk", "0"], "--topk must lie between 1 and 50"),
        (["--port", "99999"], "--port must lie between 0 and 65535"),
        (["--corpus", "none.jsonl"], "Cannot read none.jsonl"),
        (["--engine", "tantiwy"], "Did you mean 'tantivy'"),
    ],
)
def test_mistakes_are_told_before_anything_is_served(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status: object = main(["serve-search", *words])
    except SystemExit as end:  # the parser's own way
        status = end.code
    assert status == 2
    said = capsys.readouterr()
    assert hint in " ".join(f"{said.out} {said.err}".replace("│", " ").split())
