// Applies a chosen theme before the first paint; without a choice the system decides.
try {
  const theme = localStorage.getItem("chatmesh/theme");
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
} catch {
  // Storage is off in this browser: the system decides.
}
