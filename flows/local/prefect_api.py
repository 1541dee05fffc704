"""The Prefect server of the settings. Importing this module imports Prefect, which takes seconds."""

from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings

from registry.errors import PrefectRefused, PrefectUnavailable, without_credentials


def check_server() -> str | None:
    """Return the address of the server that the settings name, if they name one.

    Raises:
        PrefectUnavailable: it does not answer.
        PrefectRefused: it answers, but does not accept our credentials.
    """
    url = get_current_settings().api.url
    if not url:
        return None
    with get_client(sync_client=True) as client:
        if error := client.api_healthcheck():
            raise PrefectUnavailable(without_credentials(url)) from error
        try:
            client.api_version()  # unlike the health check, it needs the password
        except PrefectHTTPStatusError as error:
            raise PrefectRefused(without_credentials(url), error.response.status_code) from error
    return url
