// Judges the AsyncAPI document on standard input: prints one line for each error, and exits 1 if there is one.
import { readFileSync } from "node:fs";
import parser from "@asyncapi/parser";

const { document, diagnostics } = await new parser.Parser().parse(readFileSync(0, "utf8"));
const errors = diagnostics.filter((each) => each.severity === 0);
for (const each of errors) console.log(`${each.path.join(".")}: ${each.message}`);
if (!document || errors.length) process.exit(1);
console.log(`${document.version()} ${document.channels().all().length} channels ${document.operations().all().length} operations`);
