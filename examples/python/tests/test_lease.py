"""Leases: alone on a session, kept alive, given back, and never leaked."""

import pytest
from sublet_client import AcquireTimeout, LeaseExpired, LeaseReleased, Sublet

ONE = {"maxSessions": 1}


def test_a_leased_session_keeps_its_variable_and_the_next_holder_does_not_meet_it(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    with sublet.lease(pool) as lease:
        lease.execute("set", {"value": 7})
        assert lease.execute("get").value == 7
        session = lease.session_id
    with sublet.lease(pool) as lease:
        assert (lease.session_id, lease.reused) == (session, True)
        assert lease.execute("get").value is None


def test_fences_rise(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    fences = []
    for _ in range(3):
        with sublet.lease(pool) as lease:
            fences.append(lease.fence)
    assert fences == sorted(set(fences))


def test_a_session_has_one_holder(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    with sublet.lease(pool):
        with pytest.raises(AcquireTimeout) as refused:
            sublet.lease(pool, wait=0)
    assert refused.value.executed == "no"
    with sublet.lease(pool, wait=5) as lease:
        assert lease.ended is None


def test_a_lease_outlives_its_ttl_while_it_is_kept_alive_and_ends_when_it_is_not(sublet, make_pool):
    pool = make_pool(sizing={"maxSessions": 2}, lease={"minTtl": "0.1s"})
    with sublet.lease(pool, ttl=1.5) as kept:
        forgotten = sublet.lease(pool, ttl=1.5, keep_alive=False)
        # The third is granted when the second has expired: later than the first would have without its keeper.
        with sublet.lease(pool, wait=30) as third:
            assert third.session_id != kept.session_id
            assert kept.renewals >= 1
            assert kept.execute("echo", {"still": "here"}).value == {"still": "here"}
        with pytest.raises(LeaseExpired):
            forgotten.execute("echo")
        assert forgotten.release() is None
        assert forgotten.ended == "EXPIRED"


def test_a_revoked_lease_is_noticed_by_its_keeper(sublet, make_pool):
    pool = make_pool(lease={"minTtl": "0.1s"})
    lease = sublet.lease(pool, ttl=0.5)
    sublet.delete_pool(pool, force=True)
    assert lease.lost.wait(30)
    assert lease.ended in ("POOL_DELETED", "REVOKED")
    sublet.create_pool(pool, {"echo": {}})


def test_release_can_be_repeated_and_ends_the_right_to_execute(sublet, make_pool):
    lease = sublet.lease(make_pool())
    lease.release()
    lease.release()
    assert lease.ended == "RELEASED"
    with pytest.raises(LeaseReleased) as refused:
        lease.execute("echo")
    assert refused.value.executed == "no"


def test_a_discarded_session_is_not_granted_again(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    lease = sublet.lease(pool)
    lease.release(discard=True)
    with sublet.lease(pool, wait=5) as next_lease:
        assert next_lease.session_id != lease.session_id


def test_an_exception_in_the_block_releases_the_lease(sublet, make_pool):
    pool = make_pool(sizing=ONE)
    with pytest.raises(ZeroDivisionError):
        with sublet.lease(pool):
            _ = 1 / 0
    with sublet.lease(pool, wait=5):
        assert sublet.stats(pool).granted == 2


def test_big_integers_and_the_order_of_keys_survive(sublet: Sublet, make_pool):
    with sublet.lease(make_pool()) as lease:
        answer = lease.execute("echo", {"z": 18446744073709551615, "a": 1})
    assert list(answer.value.items()) == [("z", 18446744073709551615), ("a", 1)]
