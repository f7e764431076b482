"""`make soak`: hours of deploys, faults and scrapes at once, and an eye on all that is answered.

Two kamal-sd's watch one engine through one proxy that misbehaves. The steady one lives as long as
the soak, so that what leaks in it adds up; the other one is stopped and killed now and then. Both
are asked by a real Prometheus, by clients that check each answer, and by clients that are odd.
"""
