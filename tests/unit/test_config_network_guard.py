"""The guard of tests/conftest.py: no test reaches another machine by accident."""

import socket

import aiohttp
import pytest


def test_a_connection_to_another_machine_fails_the_test() -> None:
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match=r"a test reached for '192\.0\.2\.1'"):
        client.connect(("192.0.2.1", 80))


def test_even_asking_for_the_address_of_another_machine_does() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"model-hub\.example"):
        socket.getaddrinfo("model-hub.example", 443)


async def test_clients_on_an_event_loop_are_held_back_too() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"):
            await session.get("http://192.0.2.1/")


def test_this_machine_may_be_called() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        pass
