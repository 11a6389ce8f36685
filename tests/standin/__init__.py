"""A strict stand-in for OpenAI's API: a real HTTP server that refuses what OpenAI refuses.

    with serve() as standin:
        client = openai.OpenAI(base_url=standin.base_url, api_key=standin.key)

It imports none of the project's packages, so that it can judge them. Its answers follow from the
request alone (another prompt gives another answer, another text another vector), every request
is kept byte for byte in `standin.requests`, and `standin.faults` makes it misbehave on demand.
"""

from tests.standin.app import StandIn
from tests.standin.faults import FAULTS, Fault
from tests.standin.record import Recorded
from tests.standin.serving import serve

__all__ = ["FAULTS", "Fault", "Recorded", "StandIn", "serve"]
