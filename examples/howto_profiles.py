"""Links by the names of profiles.

XDG_CONFIG_HOME=$PWD/examples/profiles python examples/howto_profiles.py
"""

# [program]
import asyncio

import memif.aio


async def main() -> None:
    async with memif.aio.listen(profile="lab") as server:
        # The other end of that link: an argument goes before what the profile says.
        async with memif.aio.connect(
            profile="lab", role="slave", rx_queues=1
        ) as client:
            print(f"up, with {client.rx[0].size} slots in a ring")
            await server.wait_up(5.0)


asyncio.run(main())
# [end]
