// Opens documents saved by `storysync document` with @automerge/automerge; prints their heads and fields.
import { readFileSync } from "node:fs";
import * as Automerge from "@automerge/automerge";

const documents = process.argv.slice(2).map((file) => {
  const document = Automerge.load(readFileSync(file));
  const fields = {};
  for (const key of Object.keys(document)) {
    const value = document[key];
    fields[key] = value instanceof Automerge.ImmutableString ? value.val : value;
  }
  return { heads: Automerge.getHeads(document).sort(), changes: Automerge.getAllChanges(document).length, fields };
});
console.log(JSON.stringify(documents));
