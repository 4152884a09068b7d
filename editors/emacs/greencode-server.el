;;; greencode-server.el --- The package's own connection to the server  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: MIT

;;; Commentary:

;; One server for all buffers of this Emacs, beside whatever servers Eglot or lsp-mode run there.  It is started once;
;; where it is missing or ends before it is ready, that is reported once and nothing is tried again until
;; `greencode-restart'.  One that has worked and ends is started again with the next edit, at most thrice in three
;; minutes.

;;; Code:

(require 'greencode-core)
(require 'project)
(require 'url-util)

(defclass greencode-connection (jsonrpc-process-connection)
  ((capabilities :initform nil :accessor greencode--capabilities
                 :documentation "What the server can do, nil until it has said so.")
   (folders :initform nil :accessor greencode--folders :documentation "The project roots it knows.")
   (stopping :initform nil :accessor greencode--stopping :documentation "Non-nil where its end is wanted."))
  :documentation "A connection to the server that this package started.")

(defvar greencode--connection nil)
(defvar greencode-trouble nil
  "The sentence that says why there is no server, nil where nothing is wrong.")
(defvar greencode--ends nil
  "When the server has ended by itself, latest first.")

(defvar-local greencode--opened nil
  "(CONNECTION URI VERSION TICK) of the buffer as the server knows it.")

(defcustom greencode-language-ids
  '((js-mode . "javascript") (c++-mode . "cpp") (sh-mode . "shellscript") (emacs-lisp-mode . "emacs-lisp"))
  "Language ids of modes whose name does not say it."
  :type '(alist :key-type symbol :value-type string)
  :group 'greencode)

(defun greencode-language-id ()
  "Return the language id of the current buffer."
  (or (alist-get major-mode greencode-language-ids)
      (string-remove-suffix "-ts" (string-remove-suffix "-mode" (symbol-name major-mode)))))

(defun greencode-buffer-server ()
  "Return the server of the current buffer, started where it has none."
  (or (run-hook-with-args-until-success 'greencode-server-functions)
      (greencode-connect)))

;;;; Start and end

(defun greencode-connect ()
  "Return the package's own connection, started if need be; nil in trouble."
  (cond (greencode-trouble nil)
        ((and greencode--connection (jsonrpc-running-p greencode--connection)) greencode--connection)
        ((not (let ((default-directory (greencode-own-folder))) (executable-find (car (greencode-program)))))
         (greencode--give-up
          (format "%s is not installed: install greencode-lsp with pip, or set `greencode-command'"
                  (car (greencode-program)))))
        (t (setq greencode--connection (greencode--start)))))

(defun greencode--give-up (sentence)
  "Tell SENTENCE once, and try nothing until `greencode-restart'."
  (setq greencode-trouble sentence)
  (force-mode-line-update t)
  (message "GreenCode: %s; then M-x greencode-restart" sentence)
  nil)

(defun greencode--start ()
  "Start the server for the current buffer's project and return the connection."
  (let* ((root (greencode--root))
         (connection
          (make-instance
           'greencode-connection
           :name "greencode"
           :events-buffer-scrollback-size 0 ; it would hold the user's text
           :notification-dispatcher #'greencode--notified
           :request-dispatcher #'greencode--requested
           :on-shutdown #'greencode--ended
           :process #'greencode-make-process)))
    (setf (greencode--folders connection) (list root))
    (greencode-take-status connection '(:state "loading"))
    (greencode-request
     connection "initialize"
     (list :processId (emacs-pid)
           :clientInfo (list :name "greencode.el" :version emacs-version)
           :rootUri (greencode-path-to-uri root)
           :workspaceFolders (vector (greencode--folder root))
           :initializationOptions (list :greencode (greencode-section-of nil))
           :capabilities
           '(:general (:positionEncodings ["utf-32" "utf-16"])
             :workspace (:configuration t :workspaceFolders t)
             :textDocument (:synchronization (:dynamicRegistration :json-false)
                            :inlineCompletion (:dynamicRegistration :json-false))))
     (lambda (result)
       (setf (greencode--capabilities connection) (or (plist-get result :capabilities) '(:none t)))
       (greencode-notify connection "initialized" (make-hash-table :size 1))
       (run-hook-with-args 'greencode-connected-functions connection))
     (lambda (sentence)
       (when (jsonrpc-running-p connection) ; else its end is reported
         (greencode--give-up (format "The server cannot be used (%s)" sentence)))))
    connection))

(defvar greencode-connected-functions nil
  "Run with the connection once the server has answered initialize.")

(defun greencode--ended (connection)
  "Look at the end of the server of CONNECTION."
  (let ((now (float-time)))
    (setq greencode--ends (cl-remove-if (lambda (end) (> (- now end) 180)) greencode--ends))
    (remhash connection greencode--statuses)
    (force-mode-line-update t)
    (cond ((greencode--stopping connection))
          ((not (greencode--capabilities connection))
           (greencode--give-up "The server ended at its start: see M-x greencode-show-log"))
          ((>= (length (push now greencode--ends)) 4)
           (greencode--give-up "The server has ended four times in three minutes: see M-x greencode-show-log"))
          (t (message "GreenCode: the server has ended; the next edit starts it again")))))

(defvar greencode-patience 2
  "Seconds that a server has for each step of its end.")

(defun greencode-shutdown ()
  "Stop the server that this package started."
  (interactive)
  (when (and greencode--connection (jsonrpc-running-p greencode--connection))
    (setf (greencode--stopping greencode--connection) t)
    (ignore-errors (jsonrpc-request greencode--connection 'shutdown nil :timeout greencode-patience))
    (ignore-errors (jsonrpc-notify greencode--connection 'exit nil))
    (let ((process (jsonrpc--process greencode--connection)) (deadline (+ (float-time) greencode-patience)))
      (while (and (process-live-p process) (< (float-time) deadline))
        (accept-process-output process 0.1)))
    (jsonrpc-shutdown greencode--connection))
  (setq greencode--connection nil))

(defun greencode-restart ()
  "Start the server anew, also after it could not be started."
  (interactive)
  (greencode-shutdown)
  (setq greencode-trouble nil greencode--ends nil)
  (greencode-connect))

(defun greencode-show-log ()
  "Show what the server has written to its standard error."
  (interactive)
  (let ((log (and greencode--connection (jsonrpc-stderr-buffer greencode--connection))))
    (if (buffer-live-p log) (pop-to-buffer log)
      (user-error "No server was started"))))

(defun greencode--farewell ()
  "Tell the server to end, and let it: a signal may be what ends Emacs.
Then no child's end is noticed, and waiting for one may never end."
  (when (and greencode--connection (jsonrpc-running-p greencode--connection))
    (setf (greencode--stopping greencode--connection) t)
    (ignore-errors
      (greencode-request greencode--connection "shutdown" nil #'ignore #'ignore)
      (greencode-notify greencode--connection "exit" nil))))

(add-hook 'kill-emacs-hook #'greencode--farewell)

;;;; What the server says

(defun greencode--notified (connection method params)
  "Handle the notification METHOD of CONNECTION with PARAMS."
  (pcase method
    ('greencode/status (greencode-take-status connection params))
    ('window/showMessage (message "GreenCode: %s" (plist-get params :message)))))

(defun greencode--requested (connection method params)
  "Answer the request METHOD of CONNECTION with PARAMS."
  (pcase method
    ('workspace/configuration
     (cl-map 'vector (lambda (item) (greencode-section-of (plist-get item :scopeUri))) (plist-get params :items)))
    ('workspace/workspaceFolders (cl-map 'vector #'greencode--folder (greencode--folders connection)))
    ((or 'client/registerCapability 'client/unregisterCapability 'window/workDoneProgress/create) nil)
    (_ (jsonrpc-error :code -32601 :message "Emacs does not do this"))))

;;;; Documents

(cl-defmethod greencode-encoding ((connection greencode-connection))
  "Return what the server of CONNECTION chose to count columns in."
  (intern (or (plist-get (greencode--capabilities connection) :positionEncoding) "utf-16")))

(cl-defmethod greencode-knows-p ((connection greencode-connection))
  "Return non-nil where CONNECTION has been sent the current buffer."
  (eq connection (car greencode--opened)))

(cl-defmethod greencode-document ((_connection greencode-connection))
  "Return the identifier of the current buffer."
  (list :uri (nth 1 greencode--opened)))

(cl-defmethod greencode-sync ((connection greencode-connection))
  "Tell CONNECTION of the current buffer and of its latest text."
  (when (and (greencode--capabilities connection) (jsonrpc-running-p connection))
    (let ((uri (greencode-path-to-uri buffer-file-name)) (tick (buffer-chars-modified-tick)))
      (pcase greencode--opened
        ((and `(,(pred (eq connection)) ,known ,version ,last) (guard (equal known uri)))
         (unless (eql tick last)
           ;; the whole text: one message per pause, without the pitfalls of Emacs' change hooks
           (greencode-notify connection "textDocument/didChange"
                             (list :textDocument (list :uri uri :version (1+ version))
                                   :contentChanges (vector (list :text (greencode--text)))))
           (setq greencode--opened (list connection uri (1+ version) tick))))
        (_ (greencode-close)
           (greencode--add-folder connection (greencode--root))
           (greencode-notify connection "textDocument/didOpen"
                             (list :textDocument (list :uri uri :languageId (greencode-language-id)
                                                       :version 0 :text (greencode--text))))
           (setq greencode--opened (list connection uri 0 tick)))))
    t))

(defun greencode-close ()
  "Tell the server that the current buffer is no longer its business."
  (when greencode--opened
    (greencode-notify (car greencode--opened) "textDocument/didClose"
                      (list :textDocument (list :uri (nth 1 greencode--opened))))
    (setq greencode--opened nil)))

(defun greencode--text ()
  "Return the buffer's text.
Bytes that are no characters become U+FFFD, so that columns stay."
  (save-restriction
    (widen)
    (replace-regexp-in-string "[\x3fff80-\x3fffff]" "\ufffd"
                              (buffer-substring-no-properties (point-min) (point-max)) t t)))

(defun greencode--root ()
  "Return the root of the current buffer's project, or its folder."
  (let ((project (project-current)))
    (expand-file-name
     (cond ((null project) default-directory)
           ((fboundp 'project-root) (project-root project))
           (t default-directory)))))

(defun greencode--add-folder (connection root)
  "Tell CONNECTION of the project ROOT, where it is new to it."
  (unless (member root (greencode--folders connection))
    (push root (greencode--folders connection))
    (greencode-notify connection "workspace/didChangeWorkspaceFolders"
                      (list :event (list :added (vector (greencode--folder root)) :removed [])))))

(defun greencode--folder (root)
  "Return ROOT as a WorkspaceFolder."
  (list :uri (greencode-path-to-uri root) :name (file-name-nondirectory (directory-file-name root))))

(defun greencode-path-to-uri (path)
  "Return the URI of the file PATH."
  (concat "file://" (unless (string-prefix-p "/" path) "/")
          (url-hexify-string (expand-file-name path) url-path-allowed-chars)))

(provide 'greencode-server)
;;; greencode-server.el ends here
