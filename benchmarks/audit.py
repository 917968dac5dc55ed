"""`make audit`: known weaknesses of the packages in a lock file, by pip-audit; without its service, it says so.

Exit code 1 only where a weakness is known: that the advisories cannot be had says nothing of the packages.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main(lock: str) -> int:
    """Audit a lock file, and print what is found."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--no-deps", "--disable-pip"]
    done = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off", "--timeout", "15"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip() or "pip-audit gave no reason").splitlines()[-1]
        print(f"audit: NOT DONE, the advisories cannot be had here: {reason}")
        return 0
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped:
        print(
            f"audit: NOT DONE for {len(skipped)} of {len(packages)} packages, of which the service said nothing"
        )
    found = [(package, weakness) for package in packages for weakness in package.get("vulns", [])]
    for package, weakness in found:
        mended = ", ".join(weakness["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']}: {weakness['id']}, mended in {mended}")
    print(
        f"audit: {len(found)} known weaknesses in the {len(packages) - len(skipped)} packages that were looked up"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
