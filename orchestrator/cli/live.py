"""`orchestrator live`: windowed service levels and alerts over the record feed on Kafka."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from orchestrator.cli.output import CliError, ExitCode


def live(
    replication: Annotated[int, typer.Option("--replication", min=1, help="Replicas of its own topics.")] = 1,
    samples: Annotated[int, typer.Option("--samples", min=1, help="A rate of fewer alerts nobody.")] = 20,
) -> None:
    """Runs the live application until SIGTERM or Ctrl-C; needs the extra `live` and ORCHESTRATOR_RECORDS_TOPIC."""
    from orchestrator.config import SettingsError, load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the environment variable") from error
    url = urlsplit(settings.broker_url)
    if url.scheme != "kafka" or not settings.records_topic:
        raise CliError(
            ExitCode.USAGE,
            "live figures come from the record feed on Kafka; without it `orchestrator sla report` has the same ones",
            "set ORCHESTRATOR_BROKER_URL=kafka://... and ORCHESTRATOR_RECORDS_TOPIC=orchestrator.records, here and "
            "where the role projections runs",
        )
    try:
        from projections import live as application
    except ImportError as error:
        raise CliError(
            ExitCode.USAGE, f"Faust is not installed ({error})", "pip install 'saga-orchestrator[live]'"
        ) from error
    application.run(
        application.LiveSettings(
            brokers=url.netloc,
            records_topic=settings.records_topic,
            partitions=settings.topic_partitions,
            replication=replication,
            whole_min=samples,
            protocol=settings.kafka_protocol,
            ca_file=settings.kafka_ca_file or None,
            mechanism=settings.kafka_mechanism,
            username=settings.kafka_username or None,
            password=settings.kafka_password or None,
        ),
        settings.log_level,
    )
