#!/bin/sh
# Before the first start and after every upgrade: database, administrator, pools. Safe to run again.
set -eu
airflow db migrate
airflow fab-db migrate
airflow users create --role Admin --username admin --password "$ADMIN_PASSWORD" \
    --firstname Fleet --lastname Operator --email admin@example.org
python -m docker.pools
