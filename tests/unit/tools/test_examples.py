"""What the documents show is what is tried."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_documented_worker_is_the_one_that_is_tested() -> None:
    """The worker in Node stands in the document word for word, and is as short as it says."""
    worker = (ROOT / "examples" / "tools" / "worker.mjs").read_text(encoding="utf-8")
    document = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    assert f"```js\n{worker}```\n" in document
    code = [line for line in worker.splitlines() if line and line[:2] != "//"]
    assert len(code) <= 36
