"""What stands between two TCP connections."""


async def copy(reader, writer):
    """One direction. Its end is the end of the connection: neither clients nor agents close one half."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()
