"""Who may see and who may act. Apps mounted by plugins are open to everybody unless they ask, so every route asks."""

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from fastapi import Depends

ACTING_DAGS = ("disk_maintenance", "cache_warm", "chain_inventory")

# Every router of the app is made with these; tests walk all routes and try each without a session.
MAY_SEE = [Depends(requires_access_view(AccessView.WEBSITE))]


def may_act(user: GetUserDep) -> dict[str, bool]:
    """Per acting DAG: may this user start a run? The pages only show it; Airflow's own API decides."""
    manager = get_auth_manager()
    return {
        dag_id: manager.is_authorized_dag(
            method="POST", access_entity=DagAccessEntity.RUN, details=DagDetails(id=dag_id), user=user
        )
        for dag_id in ACTING_DAGS
    }


MayAct = Annotated[dict[str, bool], Depends(may_act)]
