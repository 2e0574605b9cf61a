"""``python -m kafka_gateway`` is the command ``kafka-gateway``."""

import sys

from kafka_gateway.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
