#!/usr/bin/env node
// Where users of kafka-rest-atmosphere know the console program: it is the one of share/js-client.
import('../../../js-client/bin/client.js');
