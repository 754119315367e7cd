"""Configuration with which cron, systemd, Kubernetes or Airflow calls ``run --due``: text to print, never installed.

Each calls every quarter of an hour: which night is due, and on which clock, is the job's own business.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from orchestrator.core.errors import UsageError
from orchestrator.core.fast_dataclass import fast_dataclass

__all__ = ["DueCall", "Scheduler", "configuration"]

Scheduler: TypeAlias = Literal["cron", "systemd", "k8s", "airflow"]

# A slot is at most a minute of its quarter late, and a call with nothing to do takes 0.2 s.
_EVERY_QUARTER = "*/15 * * * *"
# Names of objects in Kubernetes: lower case, and short enough for what is appended to them.
_LONGEST_NAME = 52


@fast_dataclass
class DueCall:
    """What is called: the program, from a folder, for a job; ``options`` name config and database.

    ``key`` is the environment variable that holds the key; None if the provider needs none.
    """

    name: str
    program: str
    folder: Path
    job: str
    options: Sequence[str]
    key: str | None

    @property
    def arguments(self) -> list[str]:
        """The command line after the program."""
        return ["run", "--due", self.job, *self.options]


def configuration(call: DueCall, scheduler: Scheduler) -> str:
    """Returns the text of a configuration file; raises ``UsageError`` for a path that it cannot hold."""
    if any(ord(sign) < 32 for text in (call.program, str(call.folder), *call.arguments) for sign in text):
        raise UsageError("a path has a line break or a control character in it", hint="name it without")
    return {"cron": _cron, "systemd": _systemd, "k8s": _kubernetes, "airflow": _airflow}[scheduler](call)


def _cron(call: DueCall) -> str:
    command = f"cd {shlex.quote(str(call.folder))} && {shlex.join([call.program, *call.arguments])}"
    key = [f"# {call.key} must be set above this line: cron starts with a short environment."] if call.key else []
    # In a crontab a percent sign ends the command.
    line = f"{_EVERY_QUARTER}  {command} 2>> {shlex.quote(f'{call.name}.log')}".replace("%", r"\%")
    return "\n".join(["# For `crontab -e`.", *key, line, ""])


def _systemd(call: DueCall) -> str:
    key = [f"# This file, which only you can read, holds a line {call.key}=…", f"EnvironmentFile={_KEY_FILE}"]
    name = f"orchestrator-{call.name}"
    return "\n".join(
        [
            f"# {name}.service",
            "[Unit]",
            f"Description=What is due of the job {call.name}",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            "Type=oneshot",
            f"WorkingDirectory={_unit_path(str(call.folder))}",
            f"ExecStart={' '.join(_unit_word(each) for each in (call.program, *call.arguments))}",
            *(key if call.key else []),
            "# Some rows failed, but the run is done.",
            "SuccessExitStatus=3",
            "# A run takes as long as it takes; when it is stopped, it ends by itself within five seconds.",
            "TimeoutStartSec=infinity",
            "TimeoutStopSec=15",
            "",
            f"# {name}.timer",
            "[Unit]",
            f"Description=Calls the job {call.name} every quarter of an hour",
            "",
            "[Timer]",
            "OnCalendar=*:0/15",
            "# After a night in which the machine was off, it is called at once.",
            "Persistent=true",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
        ]
    )


_KEY_FILE = "%h/.config/orchestrator.env"


def _unit_word(text: str) -> str:
    """A word of ``ExecStart``, in which a percent sign and a dollar sign have meanings."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else f'"{escaped}"'


def _unit_path(text: str) -> str:
    return text.replace("%", "%%")


def _kubernetes(call: DueCall) -> str:
    outside = [each for each in call.arguments if each.startswith("/")]
    if outside:
        raise UsageError(
            f"{outside[0]} is outside of this folder, which the volume of the pod holds",
            hint="call it in the folder of the job, with config and database below it",
        )
    name = re.sub(r"-+$", "", f"orchestrator-{call.name}"[:_LONGEST_NAME])
    words = "\n".join(f"                - {_yaml_text(each)}" for each in ("orchestrator", *call.arguments))
    key = f"""
              env:
                - name: {call.key}
                  valueFrom:
                    secretKeyRef: {{name: orchestrator, key: {call.key}}}"""
    return f"""\
# kubectl apply -f {name}.yaml
# The volume has the folder of the job, with its input and its database, on a local disk or a block device: SQLite's
# locks do not work on a network file system.
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: "{_EVERY_QUARTER}"
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          # It ends within five seconds when it is stopped, and is resumed by the next call.
          terminationGracePeriodSeconds: 15
          containers:
            - name: run
              # Your own image: `pip install responses-orchestrator` is all that it needs.
              image: orchestrator:latest
              workingDir: /work
              command:
{words}{key if call.key else ""}
              volumeMounts:
                - {{name: work, mountPath: /work}}
          volumes:
            - name: work
              persistentVolumeClaim: {{claimName: orchestrator}}
"""


def _yaml_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _airflow(call: DueCall) -> str:
    # Airflow renders the command as a template, which would read double braces.
    command = shlex.join([call.program, *call.arguments])
    accepted = f"{command} || {{ code=$?; [ $code -eq 3 ] || exit $code; }}"
    return f'''\
# A file in the folder of DAGs. {"The task needs " + call.key + " in its environment." if call.key else ""}
import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    {call.name!r},
    schedule="{_EVERY_QUARTER}",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
):
    BashOperator(
        task_id="run_due",
        # Exit code 3: some rows failed, but the run is done.
        bash_command={"{% raw %}" + accepted + "{% endraw %} "!r},
        cwd={str(call.folder)!r},
        append_env=True,
        retries=0,
    )
'''
