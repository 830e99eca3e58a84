"""Calls, labels and lost events in figures: what objectives are judged by."""

from collections.abc import Mapping, Sequence

from slipway_monitoring.domain.burn import Counted
from slipway_monitoring.domain.events import Role
from slipway_monitoring.store.rows import Rows

BUCKET_S = 5
LATE_S = 60  # spans come within this time
SPANS, EVENTS = "spans", "events"
# gRPC codes that are a server's fault: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (it sheds load),
# INTERNAL, UNAVAILABLE, DATA_LOSS.
_FAULTS = "'2', '4', '8', '13', '14', '15'"
# `model|{caller}|{endpoint}|{subset}` on the laptop, `outbound|{port}|{subset}|{host}` of Istio.
_ENDPOINT = (
    r"coalesce(substring(attributes->>'upstream_cluster' FROM '^model\|[^|]*\|([^|]+)\|'), "
    r"substring(attributes->>'upstream_cluster' FROM '\|([a-z0-9-]+)[.]slipway-models[.]svc'))"
)


class CallStore(Rows):
    """Counts on one connection."""

    def count_spans(self) -> None:
        """Count calls of endpoints as the doors' spans show them, by buckets of time.

        The last minute is counted anew each time, because spans come late: buckets are set, not added to.
        """
        self._rows(
            "INSERT INTO call_counts (endpoint, key, bucket, total, bad) SELECT endpoint, :key, bucket, "
            "count(*), "
            "count(*) FILTER (WHERE fault) FROM (SELECT "
            + _ENDPOINT
            + " AS endpoint, floor(extract(epoch FROM start_time) / :size)::bigint * :size AS bucket, "
            "CASE WHEN attributes ? 'grpc.status_code' THEN attributes->>'grpc.status_code' IN ("
            + _FAULTS
            + ") ELSE coalesce(attributes->>'http.status_code', '') >= '500' END AS fault FROM spans "
            "WHERE kind = 'server' AND attributes ? 'upstream_cluster' AND start_time >= to_timestamp("
            "floor(extract(epoch FROM clock_timestamp() - make_interval(secs => :late)) / :size) * :size)"
            ") s WHERE endpoint IS NOT NULL GROUP BY 1, 3 ORDER BY 1, 3 "
            "ON CONFLICT (endpoint, key, bucket) DO UPDATE SET total = EXCLUDED.total, bad = EXCLUDED.bad",
            key=SPANS,
            size=BUCKET_S,
            late=LATE_S,
        )

    def add_events(self, endpoint: str, arrivals: tuple[int, int], thresholds: Mapping[str, float]) -> None:
        """Count answered live calls that arrived in a range, and how many took longer than each threshold.

        Args:
            endpoint: Its id.
            arrivals: After the first, up to the second; the cursor moves in the same transaction.
            thresholds: Milliseconds by key.
        """
        for key, threshold_ms in {EVENTS: 0.0, **thresholds}.items():
            self._rows(
                "INSERT INTO call_counts (endpoint, key, bucket, total, bad) SELECT :endpoint, :key, "
                "floor(extract(epoch FROM p.time) / :size)::bigint * :size AS bucket, count(*), "
                "count(*) FILTER (WHERE :threshold > 0 AND p.latency_ms > :threshold) FROM predictions p "
                "JOIN endpoints e ON e.id = p.endpoint WHERE e.name = 'endpoints/' || :endpoint "
                "AND p.arrival > :after AND p.arrival <= :last AND p.role = :live AND p.row = 0 "
                "GROUP BY bucket ORDER BY bucket ON CONFLICT (endpoint, key, bucket) DO UPDATE SET "
                "total = call_counts.total + EXCLUDED.total, bad = call_counts.bad + EXCLUDED.bad",
                endpoint=endpoint,
                key=key,
                size=BUCKET_S,
                threshold=threshold_ms,
                after=arrivals[0],
                last=arrivals[1],
                live=int(Role.LIVE),
            )

    def counted(self, endpoint: str, key: str, window_s: float) -> Counted:
        """Return what was counted under a key in the last seconds, in whole buckets."""
        (row,) = self._rows(
            "SELECT coalesce(sum(total), 0) AS total, coalesce(sum(bad), 0) AS bad FROM call_counts "
            "WHERE endpoint = :endpoint AND key = :key "
            "AND bucket > extract(epoch FROM clock_timestamp()) - :window - :size",
            endpoint=endpoint,
            key=key,
            window=window_s,
            size=BUCKET_S,
        )
        return Counted(int(row.total), int(row.bad))

    def calls(self, endpoint: str, window_s: float) -> Counted:
        """Return the calls of the last seconds, and those that a server's fault failed.

        A failed call makes no event; a call that succeeded may have no span. So both are asked.
        """
        spans = self.counted(endpoint, SPANS, window_s)
        events = self.counted(endpoint, EVENTS, window_s)
        return Counted(max(spans.total, events.total + spans.bad), spans.bad)

    def wrong_rows(self, endpoint: str, window_s: float) -> Mapping[str, Counted]:
        """Return the labelled live rows whose label came in the last seconds, and the wrong ones, by
        version."""
        rows = self._rows(
            "SELECT v.name, sum(o.labelled_count) AS total, sum(o.labelled_count - o.correct_count) AS bad "
            "FROM outcomes o JOIN endpoints e ON e.id = o.endpoint JOIN versions v ON v.id = o.version "
            "WHERE e.name = 'endpoints/' || :endpoint AND o.role = :live "
            "AND o.time > clock_timestamp() - make_interval(secs => :window) GROUP BY v.name",
            endpoint=endpoint,
            live=int(Role.LIVE),
            window=window_s,
        )
        return {row.name: Counted(max(int(row.total), 0), max(int(row.bad), 0)) for row in rows}

    def lost_events(self, endpoint: str, window_s: float) -> tuple[Counted, Sequence[str]]:
        """Return the events made and lost by spools that reported in the last seconds, and those spools'
        names."""
        rows = self._rows(
            "SELECT s.id, s.received, CASE WHEN s.closed OR s.given_up THEN s.produced ELSE s.acknowledged "
            "END "
            "- s.received AS lost FROM spools s JOIN endpoints e ON e.id = s.endpoint "
            "WHERE e.name = 'endpoints/' || :endpoint "
            "AND s.report_time > clock_timestamp() - make_interval(secs => :window) ORDER BY s.report_time "
            "DESC",
            endpoint=endpoint,
            window=window_s,
        )
        lost = sum(int(row.lost) for row in rows)
        made = sum(int(row.received) for row in rows) + lost
        return Counted(made, lost), [row.id for row in rows if row.lost > 0]

    def forget(self, days: float) -> None:
        """Delete counts that no window reaches back to."""
        self._rows(
            "DELETE FROM call_counts WHERE bucket < extract(epoch FROM clock_timestamp()) - :seconds",
            seconds=days * 86_400,
        )
