"""What is said of a kind's options that do not have their form: how they are written."""

from __future__ import annotations

import pytest

from outpost.config import parse
from outpost.errors import ConfigError

OPTIONS = {
    "outposts: [{name: a, type: docker, memory: 4Gi, host: vm, extra_hosts: [db]}]": [
        "1:44: outposts[0].memory: must be written like 4g or 512m",
        "1:55: outposts[0].host: must be written like ssh://sam@vm or unix:///run/docker.sock",
        "1:73: outposts[0].extra_hosts[0]: does not fit;"
        " what belongs here: Further names that workers know, as NAME:ADDRESS",
    ],
    "outposts: [{name: a, type: e2b, memory: 4g}]": [
        "1:41: outposts[0].memory: must be written like 4Gi or 512Mi"
    ],
    "outposts: [{name: a, type: fly, app: a, region: [iad, us], memory: 4Gi, url: a.fly.dev}]": [
        "1:55: outposts[0].region[1]: must be written like iad or fra",
        "1:68: outposts[0].memory: must be written like 4g or 512m",
        "1:78: outposts[0].url: must be written like https://workers.example.com",
    ],
    "outposts: [{name: a, type: cloudrun, project: my-project, region: us, service: s,"
    " secrets: {image: x}}]": [
        "1:67: outposts[0].region[0]: must be written like us-central1 or europe-west1",
        "1:100: outposts[0].secrets.image: does not fit; what belongs here:"
        " Secrets of Secret Manager, as NAME:VERSION, by the variable or file that workers find"
        " them in",
    ],
    "outposts: [{name: a, type: ssh, host: sam@vm}]": [
        "1:39: outposts[0].host: does not fit;"
        " what belongs here: Name or address, or an alias of ~/.ssh/config"
    ],
    "outposts: [{name: a, type: fly, app: a, region: iad, cpus: 0, api_url: 'http://u:pw@h'}]": [
        "1:60: outposts[0].cpus: must be at least 1",
        "1:72: outposts[0].api_url:"
        " no user and no password here: an address is there for all to see",
    ],
}


@pytest.mark.parametrize("text", OPTIONS)
def test_who_writes_an_option_wrongly_is_told_how_to(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), file="o.yaml")
    assert list(caught.value.problems) == [f"o.yaml:{line}" for line in OPTIONS[text]]
