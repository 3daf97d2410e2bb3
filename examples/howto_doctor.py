"""Ask the doctor. ``python howto_doctor.py [SOCKET]``"""

# [doctor]
import sys

from memif.doctor import diagnose

socket = sys.argv[1] if len(sys.argv) > 1 else "/tmp/there-is-none.sock"
for finding in diagnose(socket):
    if finding.state == "fault":
        print(f"{finding.fault}: {finding.text}")
        print(finding.advice)
