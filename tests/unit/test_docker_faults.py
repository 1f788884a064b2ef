"""What the program ``docker`` prints when something is wrong, and what we make of it."""

from __future__ import annotations

import pytest

from outpost.transports.docker_faults import Trouble, fault_of

HELP = "\n\nRun 'docker run --help' for more information\n"
OLD_HELP = "\nSee 'docker run --help'.\n"
SSH = (
    'error during connect: Get "http://docker.example.com/v1.50/info": command [ssh -o'
    " ConnectTimeout=30 -T -- vm docker system dial-stdio] has exited with exit status 255, make"
    " sure the URL is valid, and Docker 18.09 or later is installed on the remote host: stderr={}"
)
# As Docker 20.10.24 and 28.2.2 print them, unless it says otherwise.
TEXTS = [
    (
        "Cannot connect to the Docker daemon at unix:///run/x. Is the docker daemon running?",
        Trouble.UNREACHED,
        "Cannot connect to the Docker daemon at unix:///run/x. Is the docker daemon running?",
    ),
    (
        "docker: permission denied while trying to connect to the Docker daemon socket at"
        ' unix:///run/x: Head "http://%2Frun%2Fx/_ping": dial unix /run/x: connect: permission'
        f" denied{HELP}",
        Trouble.UNREACHED,
        "permission denied while trying to connect to the Docker daemon socket",
    ),
    (
        'Failed to initialize: unable to resolve docker endpoint: context "there": context not'
        " found: open /home/sam/.docker/contexts/meta/9e62/meta.json: no such file or directory",
        Trouble.REFUSED,
        'unable to resolve docker endpoint: context "there": context not found',
    ),
    (
        SSH.format("ssh: Could not resolve hostname vm: Name or service not known"),
        Trouble.UNREACHED,
        "ssh: Could not resolve hostname vm: Name or service not known",
    ),
    (
        SSH.format("sam@vm: Permission denied (publickey)."),
        Trouble.REFUSED,
        "sam@vm: Permission denied (publickey)",
    ),
    (
        SSH.format("Host key verification failed."),
        Trouble.REFUSED,
        "Host key verification failed",
    ),
    (
        'error during connect: Get "https://vm:2376/v1.41/info": x509: certificate signed by'
        " unknown authority",
        Trouble.REFUSED,
        "error during connect",
    ),
    (
        'error during connect: Post "http://%2Frun%2Fx/v1.41/containers/create": EOF',
        Trouble.LOST,
        "error during connect",
    ),
    (SSH.format(""), Trouble.LOST, "error during connect"),
    ("", Trouble.LOST, "it said nothing"),
    (
        'docker: Error response from daemon: Conflict. The container name "/w-1" is already in use'
        ' by container "c3e1". You have to remove (or rename) that container to be able to reuse'
        f" that name.{OLD_HELP}",
        Trouble.TAKEN,
        'Conflict. The container name "/w-1" is already in use',
    ),
    ("Error: No such container: w-1", Trouble.ABSENT, "No such container: w-1"),
    (
        "Error response from daemon: No such container: w-1\nError: failed to start containers:"
        " w-1",
        Trouble.ABSENT,
        "No such container: w-1",
    ),
    (
        "Error response from daemon: removal of container w-1 is already in progress",
        Trouble.GOING,
        "removal of container w-1 is already in progress",
    ),
    (
        f"docker: Error response from daemon: No such image: nope:1{HELP}",
        Trouble.NO_IMAGE,
        "No such image: nope:1",
    ),
    (
        "Unable to find image 'nope:1' locally\ndocker: Error response from daemon: pull access"
        " denied for nope, repository does not exist or may require 'docker login': denied:"
        f" requested access to the resource is denied{HELP}",
        Trouble.NO_IMAGE,
        "pull access denied for nope",
    ),
    (
        "Unable to find image 'a.invalid/x:1' locally\ndocker: Error response from daemon: Get"
        f' "https://a.invalid/v2/": dial tcp: lookup a.invalid: no such host{HELP}',
        Trouble.FAILED,
        'Get "https://a.invalid/v2/"',
    ),
    (
        "docker: Error response from daemon: toomanyrequests: You have reached your pull rate"
        f" limit.{HELP}",
        Trouble.PATIENCE,
        "toomanyrequests",
    ),
    (
        "docker: Error response from daemon: mkdir /var/lib/docker/overlay2/1: no space left on"
        f" device.{OLD_HELP}",
        Trouble.FULL,
        "mkdir /var/lib/docker/overlay2/1: no space left on device",
    ),
    (
        "docker: Error response from daemon: driver failed programming external connectivity on"
        " endpoint w-1: Bind for 127.0.0.1:8080 failed: port is already allocated",
        Trouble.FULL,
        "driver failed",
    ),
    (
        f"docker: Error response from daemon: network nonet not found{HELP}",
        Trouble.REFUSED,
        "network nonet not found",
    ),
    (
        "docker: Error response from daemon: Range of CPUs is from 0.01 to 2.00, as there are only"
        f" 2 CPUs available{HELP}",
        Trouble.REFUSED,
        "Range of CPUs",
    ),
    (
        f"docker: Error response from daemon: Minimum memory limit allowed is 6MB{HELP}",
        Trouble.REFUSED,
        "Minimum memory limit",
    ),
    (
        'docker: Error response from daemon: invalid mount config for type "bind": bind source'
        f" path does not exist: /nowhere{HELP}",
        Trouble.REFUSED,
        "invalid mount config",
    ),
    (
        "docker: Error response from daemon: failed to create shim task: OCI runtime create failed:"
        ' runc create failed: unable to start container process: exec: "nosuch": executable file'
        f" not found in $PATH: unknown{HELP}",
        Trouble.REFUSED,
        "failed to create shim task",
    ),
    ("Error response from daemon: something new", Trouble.FAILED, "something new"),
]


@pytest.mark.parametrize(("stderr", "trouble", "message"), TEXTS)
def test_a_text_of_docker_is_told_apart(stderr: str, trouble: Trouble, message: str) -> None:
    fault = fault_of(stderr, "c3e1")
    assert fault.trouble is trouble
    assert fault.message.startswith(message)
    assert "\n" not in fault.message
    assert "docker run --help" not in fault.message
    assert fault.printed == "c3e1"


@pytest.mark.parametrize("stderr", [it[0] for it in TEXTS if it[1] is Trouble.UNREACHED])
def test_who_cannot_get_there_is_told_what_to_type(stderr: str) -> None:
    assert fault_of(stderr).hint
