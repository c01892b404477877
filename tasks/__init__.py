"""The engine of Chainwright. It never imports Airflow: `dags/` calls it, `tasks.cli` calls it."""
