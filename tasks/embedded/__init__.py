"""The embedded fleet of one machine: S3 server, regional caches, Airflow."""
