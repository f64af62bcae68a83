//! `top`: once, or live until q, Esc or Ctrl-C.

use super::Session;
use crate::args::OutputFormat;
use crate::exit::{CliError, Exit};
use crate::output::{Style, Tone, now_ms};
use crate::render::{json, top as render};
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, poll, read};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{cursor, execute};
use gpuloom_api::proto::Top;
use gpuloom_fleet::Seconds;
use std::io::{IsTerminal, Write, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const KEY_POLL: Duration = Duration::from_millis(100);

/// The terminal while a live picture is on it; leaving gives it back as it was.
struct Screen {
    stop: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Leave,
    Redraw,
}

pub(super) async fn top(s: &Session, once: bool, interval: Seconds) -> Result<Exit, CliError> {
    if once || s.output == OutputFormat::Json || !stdout().is_terminal() {
        let top = s.client.top().await?;
        return s.show(|style| render::frame(&top, style, None), || json::top(&top));
    }
    let mut top = s.client.top().await?;
    let (screen, mut wishes) = Screen::open().map_err(CliError::io("cannot use the terminal"))?;
    let mut ticks = tokio::time::interval(Duration::from_secs(interval.0));
    ticks.tick().await;
    let mut trouble = String::new();
    loop {
        screen
            .draw(&top, s.style, &trouble)
            .map_err(CliError::io("cannot draw"))?;
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(Wish::Redraw) => {}
                Some(Wish::Leave) | None => return Ok(Exit::OK),
            },
            _ = ticks.tick() => match s.client.top().await {
                Ok(next) => {
                    top = next;
                    trouble.clear();
                }
                Err(error) if error.is_transient() => trouble = error.to_string(),
                Err(error) => return Err(error.into()),
            },
        }
    }
}

// === impl Screen ===

impl Screen {
    fn open() -> std::io::Result<(Self, mpsc::Receiver<Wish>)> {
        enable_raw_mode()?;
        let screen = Self {
            stop: Arc::new(AtomicBool::new(false)),
        };
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        let (wish, wishes) = mpsc::channel(4);
        let stop = screen.stop.clone();
        std::thread::spawn(move || watch_keys(&stop, &wish));
        Ok((screen, wishes))
    }

    fn draw(&self, top: &Top, style: Style, trouble: &str) -> std::io::Result<()> {
        let (columns, rows) = size()?;
        let style = Style {
            now_ms: now_ms(),
            ..style
        };
        let mut text = if trouble.is_empty() {
            String::new()
        } else {
            format!("{}\n", style.paint(trouble, Tone::Bad))
        };
        let rows = rows.saturating_sub(u16::from(!trouble.is_empty()));
        text += &render::frame(top, style, Some((columns, rows)));
        let mut out = stdout().lock();
        execute!(out, cursor::MoveTo(0, 0), Clear(ClearType::All))?;
        // In raw mode a line feed does not return to the first column.
        out.write_all(text.replace('\n', "\r\n").as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The terminal may be gone; nothing is left to give back then.
        let _ = execute!(stdout(), cursor::Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

fn watch_keys(stop: &AtomicBool, wish: &mpsc::Sender<Wish>) {
    while !stop.load(Ordering::Relaxed) {
        let event = match poll(KEY_POLL) {
            Ok(true) => read(),
            Ok(false) => continue,
            Err(_) => return,
        };
        let wished = match event {
            Ok(Event::Key(key)) => wish_of(key),
            Ok(Event::Resize(..)) => Some(Wish::Redraw),
            Ok(_) => None,
            Err(_) => return,
        };
        if let Some(wished) = wished
            && wish.blocking_send(wished).is_err()
        {
            return;
        }
    }
}

fn wish_of(key: KeyEvent) -> Option<Wish> {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Leave),
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Leave),
        KeyCode::Char(' ') => Some(Wish::Redraw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_ctrl_c_leave() {
        let plain = |code| KeyEvent::new(code, KeyModifiers::NONE);
        let ctrl = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(wish_of(plain(KeyCode::Char('q'))), Some(Wish::Leave));
        assert_eq!(wish_of(plain(KeyCode::Esc)), Some(Wish::Leave));
        assert_eq!(wish_of(ctrl), Some(Wish::Leave));
        assert_eq!(wish_of(plain(KeyCode::Char('c'))), None);
    }
}
