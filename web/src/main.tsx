import { render } from "preact";
import { App } from "./ui/app";
import "./ui/styles/base.css";
import "./ui/styles/sign-in.css";
import "./ui/styles/sidebar.css";
import "./ui/styles/room.css";
import "./ui/styles/messages.css";
import "./ui/styles/composer.css";
import "./ui/styles/people.css";
import "./ui/styles/runs.css";

const root = document.getElementById("app");
if (root === null) {
  throw new Error("index.html has no #app");
}
render(<App />, root);
