"""Load on the pricing engine: customers who read prices, and now and then a recalculation.

    pip install -r locust/requirements.txt
    locust -f locust/locustfile.py --host http://localhost:8000 --headless -u 100 -r 20 -t 60s

The exit code is 1 when a request failed, when none was made, or when the 95th percentile of
POST /api/v1/price is above P95_MS milliseconds (150 unless the environment says otherwise).

Where keys are on, PRICING_API_KEY holds one with the roles read and publish, or PRICING_API_KEY_FILE names its file.
"""

import logging
import os
import random
import time

from locust import HttpUser, between, constant_pacing, events, task

PRICE = "/api/v1/price"
RECALCULATE = "/api/v1/recalculate"
TASK = "/api/v1/tasks/[id]"
FIELDS = ("product_id", "final_price", "base_price", "discount_rate", "source")
P95_MS = float(os.environ.get("P95_MS", "150"))
RECALCULATION_WITHIN_SECONDS = 120


def key_headers():
    """The header that shows the key, if there is one."""
    key = os.environ.get("PRICING_API_KEY")
    if file := os.environ.get("PRICING_API_KEY_FILE"):
        with open(file, encoding="ascii") as lines:
            key = lines.read()
    return {"Authorization": f"Bearer {key.strip()}"} if key else {}


class Caller(HttpUser):
    """Shows the key."""

    abstract = True

    def on_start(self):
        self.client.headers.update(key_headers())


class PriceUser(Caller):
    """A customer who looks at one product after another."""

    weight = 50
    wait_time = between(0.1, 0.5)

    @task
    def read_price(self):
        request = {
            "product_id": f"P-{random.randint(100, 999)}",
            "user_location": random.choice(["NY", "LA", "MIA"]),
            "is_prime_member": random.choice([True, False]),
        }
        with self.client.post(PRICE, json=request, name=PRICE, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return
            try:
                missing = [field for field in FIELDS if field not in response.json()]
            except ValueError:
                response.failure("the answer is not JSON")
                return
            if missing:
                response.failure(f"the answer lacks {', '.join(missing)}")


class RecalculationUser(Caller):
    """The back office: one of them recalculates every price once in a while and waits for the end."""

    fixed_count = 1
    wait_time = constant_pacing(15)

    @task
    def recalculate(self):
        response = self.client.post(RECALCULATE, name=RECALCULATE)
        if not response.ok:
            return
        task_id = response.json()["task_id"]
        deadline = time.monotonic() + RECALCULATION_WITHIN_SECONDS
        while not self.has_ended(task_id, is_late=time.monotonic() > deadline):
            time.sleep(0.5)

    def has_ended(self, task_id, is_late):
        with self.client.get(f"/api/v1/tasks/{task_id}", name=TASK, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
                return True
            state = response.json()["state"]
            if state == "dead":
                response.failure("the recalculation is dead")
            elif is_late and state != "succeeded":
                response.failure(f"still {state} after {RECALCULATION_WITHIN_SECONDS} s")
                return True
            return state in ("succeeded", "dead")


@events.quitting.add_listener
def judge(environment, **_):
    """Turns the statistics into the exit code."""
    total = environment.stats.total
    p95 = environment.stats.get(PRICE, "POST").get_response_time_percentile(0.95) or 0
    reasons = []
    if total.num_requests == 0:
        reasons.append("no request was made")
    if total.num_failures > 0:
        reasons.append(f"{total.num_failures} of {total.num_requests} requests failed")
    if p95 > P95_MS:
        reasons.append(f"the 95th percentile of {PRICE} is {p95:.0f} ms, above {P95_MS:.0f} ms")
    for reason in reasons:
        logging.error("Not passed: %s", reason)
    if not reasons:
        logging.info("Passed: no failure, 95th percentile of %s is %.0f ms", PRICE, p95)
    environment.process_exit_code = 1 if reasons else 0
