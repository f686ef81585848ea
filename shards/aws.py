"""Reads keys from the configuration of Amazon's tools, which the client of stores does not read."""

from __future__ import annotations

import configparser
import os
from pathlib import Path


def aws_profile() -> dict[str, str]:
    """Keys, region and endpoint of the profile AWS_PROFILE (`default`) in ~/.aws, where the environment has no keys.

    Raises ValueError where AWS_PROFILE names a missing profile, or one with keys from a program or a login.
    """
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    name = os.environ.get("AWS_PROFILE", "default")
    profile: dict[str, str] = {}
    config_section = name if name == "default" else f"profile {name}"
    files = ("AWS_CONFIG_FILE", "config", config_section), ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name)
    for variable, file, section in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(os.environ.get(variable) or Path.home() / ".aws" / file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):  # its message would quote a line of the file
            raise ValueError(f"the file {file} of ~/.aws cannot be read as such (profile {name})") from None
        profile |= dict(parser[section]) if parser.has_section(section) else {}
    if not profile and "AWS_PROFILE" in os.environ:
        raise ValueError(f"AWS_PROFILE is {name}, and there is no such profile in ~/.aws")
    external = {"sso_session", "sso_start_url", "credential_process", "role_arn"}
    if "aws_access_key_id" not in profile and external & {*profile}:
        raise ValueError(
            f"the profile {name} in ~/.aws has no keys of its own: "
            f'eval "$(aws configure export-credentials --profile {name} --format env)" gives them to this shell'
        )
    names = {"region": "region"} if "AWS_REGION" not in os.environ else {}
    names |= {"endpoint_url": "endpoint"} if "AWS_ENDPOINT_URL" not in os.environ else {}
    names |= {f"aws_{key}": key for key in ("access_key_id", "secret_access_key", "session_token")}
    return {ours: profile[theirs] for theirs, ours in names.items() if theirs in profile}
