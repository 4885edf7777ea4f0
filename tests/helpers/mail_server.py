"""A mail server that receives e-mails, with a password and with STARTTLS."""

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread


@dataclass
class Mailbox:
    """What has arrived: each e-mail with its sender, its recipients and whether it came encrypted."""

    port: int = 0
    #: "user:password" of each login.
    logins: list[str] = field(default_factory=list)
    envelopes: list[tuple[str, list[str], bool]] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    #: Recipients that are refused.
    unknown: set[str] = field(default_factory=set)


@contextmanager
def receiving_mail(tls: ssl.SSLContext | None = None) -> Iterator[Mailbox]:
    """Within: a real server on a port of this machine. With `tls` it takes e-mails only after STARTTLS."""
    mailbox = Mailbox()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.is_encrypted = False
            self.sender, self.recipients = "", list[str]()
            self.answer("220 ready")
            while line := self.rfile.readline():
                verb, _space, rest = line.decode().strip().partition(" ")
                if verb.upper() == "QUIT":
                    self.answer("221 bye")
                    return
                self.perform(verb.upper(), rest)

        def answer(self, *lines: str) -> None:
            self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

        def perform(self, verb: str, rest: str) -> None:
            if verb == "EHLO":
                extension = "STARTTLS" if tls and not self.is_encrypted else "AUTH PLAIN"
                self.answer("250-mail.example.org", f"250 {extension}")
            elif verb == "STARTTLS" and tls:
                self.answer("220 go ahead")
                self.encrypt(tls)
            elif tls and not self.is_encrypted:
                self.answer("530 encryption is required")
            elif verb == "AUTH":
                _authorization, user, password = base64.b64decode(rest.split()[-1]).decode().split("\0")
                mailbox.logins.append(f"{user}:{password}")
                self.answer("235 welcome")
            elif verb == "RCPT" and address_in(rest) in mailbox.unknown:
                self.answer("550 no such mailbox")
            elif verb == "DATA":
                self.answer("354 go ahead")
                self.receive()
                self.answer("250 received")
            else:
                if verb == "MAIL":
                    self.sender, self.recipients = address_in(rest), []
                elif verb == "RCPT":
                    self.recipients.append(address_in(rest))
                self.answer("250 ok")

        def receive(self) -> None:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
            mailbox.envelopes.append((self.sender, self.recipients, self.is_encrypted))
            mailbox.mails.append(message_from_bytes(b"".join(lines), policy=policy.default))

        def encrypt(self, context: ssl.SSLContext) -> None:
            self.finish()
            self.request = context.wrap_socket(self.request, server_side=True)
            self.setup()
            self.is_encrypted = True

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    mailbox.port = server.server_address[1]
    try:
        yield mailbox
    finally:
        server.shutdown()
        server.server_close()


def address_in(text: str) -> str:
    """The address in "FROM:<ada@example.org> size=7"."""
    return text.partition("<")[2].partition(">")[0]
