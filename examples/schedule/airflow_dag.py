"""An Airflow DAG that looks for new acquisitions every quarter of an hour."""

import datetime

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="crgen",
    schedule=datetime.timedelta(minutes=15),
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    # crgen tries again by itself, in the next run.
    default_args={"retries": 0},
):
    BashOperator(
        task_id="batch_run",
        bash_command="exec crgen batch run /var/lib/crgen/jobs.toml",
        append_env=True,
        env={"EE_PROJECT_ID": "my-project"},
        # Some jobs wait for another try.
        skip_on_exit_code=9,
    )
