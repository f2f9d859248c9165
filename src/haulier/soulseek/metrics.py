"""What a node tells Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from haulier.soulseek.node import Node


class NodeCollector(Collector):
    """Reads a node when it is asked; nothing is counted twice."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterator[Metric]:
        """Yield what is."""
        node = self._node
        for name, text, value in (
            ("haulier_soulseek_online", "Whether the link to the server is up.", node.link.up.is_set()),
            ("haulier_soulseek_connections", "Connections with peers.", node.peers.count),
            ("haulier_soulseek_shared_files", "Files that are shared.", node.shares.files),
            ("haulier_soulseek_uploads_running", "Slots that uploads hold.", node.uploads.slots.held),
            ("haulier_soulseek_uploads_waiting", "Uploads in the queue.", node.uploads.waiting),
            ("haulier_soulseek_downloads_running", "Slots that downloads hold.", node.downloads.slots.held),
            ("haulier_soulseek_downloads_live", "Downloads that have not ended.", len(node.downloads.live)),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))
        yield CounterMetricFamily(
            "haulier_soulseek_sent_bytes",
            "Bytes that peers acknowledged.",
            value=node.uploads.totals.bytes_sent,
        )
        yield CounterMetricFamily(
            "haulier_soulseek_received_bytes", "Bytes of downloads.", value=node.downloads.bytes_received
        )
        ended = CounterMetricFamily(
            "haulier_soulseek_uploads_ended", "Uploads by their outcome.", labels=["outcome"]
        )
        for outcome, count in node.uploads.totals.ended.items():
            ended.add_metric([outcome.value], count)
        yield ended


def exposition(node: Node) -> str:
    """Return all metrics of a node as text."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node))
    return generate_latest(registry).decode()
