"""An S3 store on loopback, with real signatures and policies, and a line to it that can be cut."""

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import boto3
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

REGION = "us-east-1"


class Store:
    """A store that has one bucket. It takes any key until it must look at them."""

    def __init__(self, bucket: str) -> None:
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        self.place = self.server.get_host_and_port()
        self.address = "http://{}:{}".format(*self.place)
        self.bucket = bucket
        self.s3, self.iam = (
            boto3.client(
                service,
                endpoint_url=self.address,
                region_name=REGION,
                aws_access_key_id="tests",
                aws_secret_access_key="tests",
            )
            for service in ("s3", "iam")
        )
        self.s3.create_bucket(Bucket=bucket)

    def objects(self) -> dict[str, bytes]:
        """Every key in the bucket and its bytes."""
        listed = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {entry["Key"]: self.get(entry["Key"]) for entry in listed}

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self.s3.delete_object(Bucket=self.bucket, Key=key)

    def someone_with(self, policy: dict) -> dict[str, str]:
        """The variables of the environment by which a user with that policy is known."""
        name = f"user{len(self.iam.list_users()['Users'])}"
        self.iam.create_user(UserName=name)
        self.iam.put_user_policy(
            UserName=name, PolicyName="only", PolicyDocument=json.dumps(policy)
        )
        key = self.iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    @contextmanager
    def looking_at_keys(self) -> Iterator[None]:
        """Only known keys, and what their policies allow."""
        self._tell("reset-auth", b"0")
        try:
            yield
        finally:
            self._tell("reset-auth", b"inf")

    def close(self) -> None:
        self._tell("reset", b"")
        self.server.stop()

    def _tell(self, what: str, data: bytes) -> None:
        request = urllib.request.Request(
            f"{self.address}/moto-api/{what}", data, {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request).close()


class Line:
    """A place on loopback that passes all bytes on to another, until it is cut.

    `cut("up", n)` lets n more bytes through towards the store, `cut("down", n)` from it; then every
    connection breaks, and each new one at once, until `mend()`.
    """

    def __init__(self, place: tuple[str, int]) -> None:
        self.to = place
        self.direction, self.left = "", 0
        self.lock = threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "http://{}:{}".format(*self.socket.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, direction: str, n_bytes: int) -> None:
        with self.lock:
            self.direction, self.left = direction, n_bytes

    def mend(self) -> None:
        with self.lock:
            self.direction = ""

    def close(self) -> None:
        self.socket.close()

    def _broken(self) -> bool:
        return bool(self.direction) and self.left <= 0

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self.socket.accept()
                if self._broken():
                    client.close()
                    continue
                server = socket.create_connection(self.to)
                for ends in ((client, server, "up"), (server, client, "down")):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with suppress(OSError):  # one end has gone
            while data := source.recv(1 << 16):
                with self.lock:
                    if self.direction == direction:
                        data = data[: max(0, self.left)]
                        self.left -= len(data)
                    broken = self._broken()
                sink.sendall(data)
                if broken:
                    break
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
