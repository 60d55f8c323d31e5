// Holds Kubernetes objects, a JSON list on standard input, against their models: enums,
// quantities and custom resources, which the schemas of `kubernetes-validate` leave open.
// Prints a JSON list of what is wrong with each, and of the kinds that have no model.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const PACKAGES = [
  "kubernetes-models",
  "@kubernetes-models/prometheus-operator",
  "@kubernetes-models/keda",
  "@kubernetes-models/gateway-api",
];

async function modelOf({ apiVersion, kind }) {
  for (const name of PACKAGES) {
    const file = new URL(`node_modules/${name}/${apiVersion}/${kind}.js`, import.meta.url);
    if (existsSync(fileURLToPath(file))) return (await import(file.href))[kind];
  }
  return undefined;
}

const wrong = [];
const unknown = [];
for (const document of JSON.parse(readFileSync(0, "utf8"))) {
  const Model = await modelOf(document);
  if (Model === undefined) {
    unknown.push(document.kind);
    continue;
  }
  try {
    new Model(document).validate();
  } catch (error) {
    wrong.push(`${document.kind} ${document.metadata.name}: ${error.message}`);
  }
}
console.log(JSON.stringify({ wrong, unknown: [...new Set(unknown)].sort() }));
