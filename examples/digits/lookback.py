"""Third act, (5) and (6): from a prediction back to annotators, from a careless one forward, and again."""

from typing import TYPE_CHECKING

from labelling import CARELESS, PEOPLE
from slipway.client import lineage as lin
from slipway.monitoring.v1 import monitoring_pb2 as mon

if TYPE_CHECKING:
    from story import Story

WINDOW_S = 300


def trace(story: "Story", prediction: str) -> None:
    """(5) From one prediction of a faded image back to the people whose answers the version learnt from."""
    with story.steps.step("back to the annotators") as step:
        graph = lin.origin(story.client, f"predictions/{prediction}")
        counts = {kind: len(graph.of_kind(kind)) for kind in lin.KINDS if graph.of_kind(kind)}
        people = sorted(name.rpartition("/")[2] for name in graph.of_kind("annotators"))
        step.figures |= counts
        step.headline = f"{prediction} goes back to {', '.join(people)} over " + ", ".join(
            f"{count} {kind}" for kind, count in counts.items()
        )
        story.steps.console.print(f"   look: slipway trace {prediction}")
        if people != sorted(person.name for person in PEOPLE):
            raise AssertionError(f"the walk ends at {people}")


def impact(story: "Story") -> None:
    """(5) From the careless annotator forward to the share of live traffic that his answers reach now."""
    with story.steps.step("forward to live traffic") as step:
        graph = lin.impact(story.client, f"annotators/{CARELESS.name}")
        reached = set(graph.of_kind("versions"))
        request = mon.GetQualityRequest(
            name=story.endpoint.replace("endpoints/", "monitors/"), window_s=WINDOW_S
        )
        found = story.client.monitoring.GetQuality(request)
        share = sum(v.traffic_share for v in found.versions if v.model_version in reached)
        step.figures |= {"versions": len(reached), "traffic_share": share}
        step.headline = (
            f"annotators/{CARELESS.name} reached {len(reached)} versions, "
            f"which answered {100 * share:.0f} % of the live traffic of the last {WINDOW_S // 60} minutes"
        )
        story.steps.console.print(f"   look: slipway impact annotators/{CARELESS.name}")
        if not share:
            raise AssertionError(
                "his answers reach no live traffic, though the serving version has learnt them"
            )


def reproduce(story: "Story") -> None:
    """(6) Train v2 again from its record alone; every file of the bundle has the same digest."""
    with story.steps.step("reproduce") as step:
        from story import slipway

        run = story.versions[1].run
        found = slipway("reproduce", run)
        step.figures |= {"equal": found["equal"], "files": len(found["files"])}
        step.headline = f"{run} trained again: {len(found['files'])} files, the same digests"
        if not found["equal"]:
            raise AssertionError(f"the files differ: {found['files']}")
