"""Settings for Django's own tests: both databases behind the same port."""

import json
import os

from django.test.runner import DiscoverRunner


def database(name):
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["DJANGO_PORT"],
        "USER": "postgres",
        "PASSWORD": "any",
        "NAME": name,
    }


DATABASES = {"default": database("django"), "other": database("other")}
SECRET_KEY = "of a test"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "django_settings.Runner"


class Runner(DiscoverRunner):
    """Writes what became of each test."""

    def run_suite(self, suite, **options):
        tests = [test.id() for test in suite]
        result = super().run_suite(suite, **options)
        outcomes = dict.fromkeys(tests, "passed")
        for test, _ in result.skipped:
            outcomes[test.id()] = "skipped"
        for test, _ in result.failures + result.errors:
            # A class that cannot be set up, or one of the parts of a test.
            outcomes[test.id().partition(" (<")[0].partition(" [")[0]] = "failed"
        for test in result.unexpectedSuccesses:
            outcomes[test.id()] = "failed"
        with open(os.environ["DJANGO_REPORT"], "w") as file:
            json.dump(outcomes, file)
        return result
