"""Alerts: each fires when it should, keeps quiet when it should, and has a runbook."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from support.prometheus import promtool

ROOT: Final = Path(__file__).parents[3]
ALERTS: Final = ROOT / "deploy" / "alerts"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"
CASES: Final[dict[str, Any]] = yaml.safe_load(
    (ALERTS / "tests" / "cases.yaml").read_text()
)
RULES: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for file in sorted(ALERTS.glob("*.yaml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
GROUPS: Final = [
    group["name"]
    for file in sorted(ALERTS.glob("*.yaml"))
    for group in yaml.safe_load(file.read_text())["groups"]
]
HEADINGS: Final = ("Meaning", "Impact", "What to look at", "What to do")


KINDS: Final = ("fires", "quiet")


def step_of(case: dict[str, Any]) -> str:
    return case.get("every", "1m")


STEPS: Final = {step_of(case[kind]) for case in CASES.values() for kind in KINDS}


def test_the_rules_are_sound() -> None:
    """Prometheus itself reads every file of ours."""
    promtool("check", "rules", *map(str, sorted(ALERTS.glob("*.yaml"))))


def test_every_alert_is_tried_and_nothing_else() -> None:
    """An alert without a case may never fire, and nobody would know."""
    assert sorted(CASES) == sorted(RULES)


@pytest.mark.parametrize("every", sorted(STEPS))
def test_every_alert_fires_and_keeps_quiet_as_it_should(
    every: str, tmp_path: Path
) -> None:
    """All cases of one step in one run of promtool: its start is what takes the time."""
    tests = [
        case_of(name, case[kind], fires=kind == "fires")
        for name, case in CASES.items()
        for kind in KINDS
        if step_of(case[kind]) == every
    ]
    rules = [str(one) for one in sorted(ALERTS.glob("*.yaml"))]
    file = tmp_path / "alerts.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": rules,
                "evaluation_interval": every,
                # Without it groups come in any order, and an alert may look for what
                # the recordings of its own moment have not written yet.
                "group_eval_order": GROUPS,
                "tests": tests,
            }
        )
    )

    promtool("test", "rules", str(file))


@pytest.mark.parametrize("every", sorted(STEPS))
def test_a_mesh_that_is_well_hides_no_sick_one(every: str, tmp_path: Path) -> None:
    """One Prometheus, two namespaces: it fires for the one, and names it."""
    tests: list[dict[str, Any]] = []
    for name, case in CASES.items():
        if step_of(case["fires"]) != every or "namespace=" in str(case["fires"]):
            continue
        sick = case_of(name, inside(case["fires"], "sick"), fires=True)
        well = case_of(name, inside(case["quiet"], "well"), fires=False)
        sick["input_series"] += well["input_series"]
        tests.append(sick)
    file = tmp_path / "alerts.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(one) for one in sorted(ALERTS.glob("*.yaml"))],
                "evaluation_interval": every,
                "group_eval_order": GROUPS,
                "tests": tests,
            }
        )
    )

    assert tests
    promtool("test", "rules", str(file))


def inside(case: dict[str, Any], namespace: str) -> dict[str, Any]:
    """A case as Prometheus sees it in a cluster."""
    return {
        **case,
        "labels": {**case.get("labels", {}), "namespace": namespace},
        "series": {
            f'{series.removesuffix("}")},namespace="{namespace}"}}': values
            for series, values in case["series"].items()
        },
    }


def case_of(name: str, case: dict[str, Any], *, fires: bool) -> dict[str, Any]:
    """One case as promtool wants it."""
    rule = RULES[name]
    expected = {
        "exp_labels": {
            "severity": rule["labels"]["severity"],
            **case.get("labels", {}),
        },
        "exp_annotations": rule["annotations"],
    }
    return {
        "name": f"{name} {'fires' if fires else 'keeps quiet'}",
        "interval": step_of(case),
        "input_series": [
            {"series": series, "values": str(values)}
            for series, values in case["series"].items()
        ],
        "alert_rule_test": [
            {
                "eval_time": case["at"],
                "alertname": name,
                "exp_alerts": [expected] if fires else [],
            }
        ],
    }


@pytest.mark.parametrize("alert", sorted(RULES))
def test_every_alert_has_its_runbook(alert: str) -> None:
    """Whoever is woken finds a page of the same name that says what to do."""
    rule = RULES[alert]
    page = ROOT / rule["annotations"]["runbook_url"]

    assert page == RUNBOOKS / f"{alert}.md"
    text = page.read_text()
    assert text.startswith(f"# {alert}\n")
    assert [h for h in HEADINGS if f"\n## {h}\n" not in text] == []
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert f"**{rule['labels']['severity']}**" in text


def test_no_runbook_is_left_over() -> None:
    """A page for an alert that is gone would mislead."""
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}

    assert pages == set(RULES)
