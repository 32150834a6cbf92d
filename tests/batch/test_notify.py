"""People are told by webhook and e-mail, with the picture; a fault there costs nothing and tells no secret."""

import base64
import email
import email.message
import email.policy
import io
import logging
import socket
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller

from crgen.batch.tell.notify import check_urls, notify
from crgen.errors import RequestError


@pytest.fixture
def mail_server():
    """An SMTP server that keeps what is sent."""
    sent: list[email.message.EmailMessage] = []

    class Keep:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            sent.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(Keep(), hostname="127.0.0.1", port=port)
    controller.start()
    yield f"127.0.0.1:{port}", sent
    controller.stop()


TITLE, BODY = "beira: map of 2021-07-22", "85 % generated"


@pytest.fixture
def everything_logged():
    """What all libraries log, as with `crgen --debug`."""
    root, text = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(text)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


def test_a_webhook_gets_the_event_with_the_quicklook_once(webhook, one_product):
    address, posted, _ = webhook
    notify([f"json://{address}/hook"], "done", TITLE, BODY, picture=one_product.quicklook)

    path, message = posted.get_nowait()
    assert path == "/hook"
    assert (message["title"], message["message"], message["type"]) == (TITLE, BODY, "success")
    (picture,) = message["attachments"]
    assert picture["filename"] == "map.png"
    assert base64.b64decode(picture["base64"]) == one_product.quicklook.read_bytes()
    assert posted.empty()


def test_an_e_mail_carries_the_quicklook(mail_server, one_product):
    address, sent = mail_server
    urls = [f"mailto://{address}/?from=crgen@example.org&to=ops@example.org&mode=insecure&format=text"]
    notify(urls, "done", TITLE, BODY, picture=one_product.quicklook)

    (message,) = sent
    assert message["Subject"] == TITLE
    assert "ops@example.org" in message["To"]
    assert BODY in message.get_body(("plain",)).get_content()
    (picture,) = message.iter_attachments()
    assert picture.get_content_type() == "image/png"
    assert picture.get_content() == one_product.quicklook.read_bytes()


def test_a_failure_says_so_and_needs_no_picture(webhook):
    address, posted, _ = webhook
    notify([f"json://{address}"], "failed", "beira failed", "the area is no polygon", picture=Path("gone.png"))
    _, message = posted.get_nowait()
    assert (message["type"], message["attachments"]) == ("failure", [])


def test_an_unreachable_url_costs_neither_the_job_nor_the_other_urls(webhook, everything_logged):
    address, posted, handler = webhook
    handler.status = 500
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    urls = [f"json://me:hunter2@{nobody}/hunter2", "nonsense://hunter2", "hunter2", f"json://x:hunter2@{address}/"]
    notify(urls, "done", TITLE, BODY)
    assert posted.qsize() == 1
    assert everything_logged.getvalue().splitlines() == [
        f"notify url 1 (JSON) did not take the notification of {TITLE}",
        f"notify url 2 is none that apprise understands; nobody was notified of {TITLE}",
        f"notify url 3 is none that apprise understands; nobody was notified of {TITLE}",
        f"notify url 4 (JSON) did not take the notification of {TITLE}",
    ]


def test_urls_are_checked_before_anything_happens():
    check_urls(["json://localhost/hook", "mailtos://me:secret@example.org"])
    with pytest.raises(RequestError, match=r"notify url 2 \(nonsense\)") as refused:
        check_urls(["json://localhost", "nonsense://hunter2"])
    assert "hunter2" not in str(refused.value)
